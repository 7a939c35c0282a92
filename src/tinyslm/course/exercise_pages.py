"""The pages of the exercises, and the teacher's page: the same for every model."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from tinyslm.core.page import Block, Folded, Paragraph, Sample, Section, Table, page
from tinyslm.course.blocks import Contents, Links
from tinyslm.course.checking import file_of
from tinyslm.course.exercises import EXERCISES, Exercise
from tinyslm.course.exercises.starting import start_of
from tinyslm.course.teacher import TEACHER, teacher_sections

CONTENTS = "index.html"


def write_exercises(folder: Path) -> None:
    """Write a page for each exercise, and the teacher's page."""
    style = (files("tinyslm.course") / "static" / "course.css").read_text("utf-8")
    for number, exercise in enumerate(_exercises(), 1):
        blocks = [_nav(number), *_blocks(number, exercise), _nav(number)]
        html = page(f"Exercise {number}: {exercise.title}", exercise.about, blocks, style=style)
        (folder / _file(number)).write_text(html, encoding="utf-8")
    blocks = [Links([(CONTENTS, "Contents")], "Pages"), *teacher_sections()]
    html = page("For teachers", "A lesson, a day, and what they need.", blocks, style=style)
    (folder / TEACHER).write_text(html, encoding="utf-8")


def exercise_links() -> tuple[Block, ...]:
    """The section on exercises in the table of contents."""
    listed = [(_file(number), one.title, one.about) for number, one in enumerate(_exercises(), 1)]
    return (
        Paragraph(
            "Tasks of growing difficulty. The first six change a model in one file, the others extend the package "
            "with a file for --plugin. For each, a command checks your solution."
        ),
        Contents(listed, "Exercises"),
        Links([(TEACHER, "For teachers: a lesson, a day, and what they need")], "For teachers"),
    )


def _exercises() -> Iterator[Exercise]:
    return (EXERCISES[name] for name in EXERCISES)


def _file(number: int) -> str:
    return f"exercise-{number}.html"


def _nav(number: int) -> Links:
    names = list(EXERCISES)
    links = [
        (_file(other), f"Exercise {other}: {EXERCISES[names[other - 1]].title}")
        for other in (number - 1, number + 1)
        if 1 <= other <= len(names)
    ]
    return Links([(CONTENTS, "Contents"), *links], "Exercises")


def _blocks(number: int, exercise: Exercise) -> Iterator[Block]:
    file = file_of(number)
    commands = [
        f"tinyslm learn start {number}    # writes {file}",
        f"tinyslm learn check {number}    # checks your solution",
    ]
    yield Section("Task", [Paragraph(text) for text in exercise.task])
    yield Section("Commands", (Sample("In a terminal", "\n".join(commands)),))
    yield Section(
        "What is checked",
        (
            Table([(str(place), check.description) for place, check in enumerate(exercise.checks, 1)]),
            Paragraph("Your file runs in a process of its own, with limits on time and memory."),
        ),
    )
    if exercise.then:
        commands = [command.replace("FILE", file) for command in exercise.then]
        yield Section("Then try it", (Sample("In a terminal", "\n".join(commands)),))
    hints = [Folded(f"Hint {place}", (Paragraph(hint),)) for place, hint in enumerate(exercise.hints, 1)]
    start = Folded("The file to start from", (Sample(file, start_of(number)),))
    yield Section("Help", (*hints, start))
