"""Write the course: one HTML file for each chapter and a table of contents, after a small run if no model is given."""

from importlib.resources import files
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder
from tinyslm.core.page import Block, Paragraph, Section, Table, page
from tinyslm.core.quantities import count
from tinyslm.course.blocks import Contents, Links
from tinyslm.course.chapter import Chapter
from tinyslm.course.chapters import CHAPTERS
from tinyslm.course.exercise_pages import exercise_links, write_exercises
from tinyslm.course.exercises import EXERCISES
from tinyslm.course.subject import Subject
from tinyslm.data.standard_library import standard_library
from tinyslm.planning.train import train
from tinyslm.training.pipeline import Watch

CONTENTS = "index.html"
SENTENCE = "def mean(values):\n    return sum(values) / len(values)\n"
"""What is followed through the model if nothing else is given: the small run reads Python."""
SNAPSHOTS = 8


def learn(
    model: str | Path | None = None,
    out: str | Path = "course",
    *,
    text: str = "",
    minutes: float = 2.0,
    watch: Watch | None = None,
) -> Path:
    """Write the course about a model folder or run folder into the new folder `out`; returns its table of contents.

    Without a model, one is trained on the Python standard library in `minutes`; its run folder is `out` with "-run"
    behind its name. text: the sentence that the chapters follow through the model. watch: gets the events of that run,
    and "chapter" before each chapter is made. Raises `TinyslmError` if `out` exists, or the sentence is too long.
    """
    watch, out = watch or Watch(), Path(out)
    if out.exists():
        raise TinyslmError(f"{out} exists already.", "Give another folder with --out: nothing is overwritten.")
    if model is None:
        model = out.with_name(f"{out.name}-run")
        settings = {"train": {"minutes": minutes, "snapshots": SNAPSHOTS}}
        train(standard_library(), model, settings=settings, watch=watch)
    return write_course(Subject.open(Path(model), text or SENTENCE), out, watch)


def write_course(subject: Subject, out: Path, watch: Watch) -> Path:
    """Write all pages, whole or not at all; returns the path of the table of contents."""
    chapters = {name: CHAPTERS[name] for name in CHAPTERS}
    with atomic_folder(out) as folder:
        for number, (name, chapter) in enumerate(chapters.items(), 1):
            watch.event({"event": "chapter", "title": chapter.title})
            (folder / _file(number, name)).write_text(chapter_page(subject, name), encoding="utf-8")
        write_exercises(folder)
        (folder / CONTENTS).write_text(_contents(subject, chapters), encoding="utf-8")
    return out / CONTENTS


def chapter_page(subject: Subject, name: str) -> str:
    """The HTML document of one chapter."""
    chapter, names = CHAPTERS[name], list(CHAPTERS)
    place = names.index(name)
    links = [(CONTENTS, "Contents")]
    links += [
        (_file(number, names[number - 1]), f"{number}. {CHAPTERS[names[number - 1]].title}")
        for number in (place, place + 2)
        if 1 <= number <= len(names)
    ]
    nav = Links(links, "Chapters")
    script = "\n".join(_static(file) for file in ("course.js", *chapter.scripts))
    style = "\n".join(_static(file) for file in ("course.css", *chapter.styles))
    blocks: list[Block] = [nav, *chapter.blocks(subject), nav]
    title = f"{place + 1}. {chapter.title}"
    return page(title, chapter.about, blocks, style=style, script=script)


def _contents(subject: Subject, chapters: dict[str, Chapter]) -> str:
    config = subject.model.config
    rows = [
        ("model", str(subject.folder.parent.name if subject.folder.name == "model" else subject.folder.name)),
        ("parameters", count(sum(one.numel() for one in subject.model.parameters()))),
        ("layers, heads, width", f"{config.depth}, {config.heads}, {config.dim}"),
        ("vocabulary", f"{config.vocab_size:,} tokens"),
        ("sentence", subject.text),
    ]
    listed = [(_file(number, name), one.title, one.about) for number, (name, one) in enumerate(chapters.items(), 1)]
    sections = (
        Section("Chapters", (Contents(listed, "Chapters"),)),
        Section("Exercises", exercise_links()),
        Section("Your model", (Paragraph("Every number in the chapters comes from this model."), Table(rows))),
    )
    return page(
        "Understand your own model",
        f"A course of {len(listed)} chapters and {len(list(EXERCISES))} exercises.",
        sections,
        style=_static("course.css"),
    )


def _file(number: int, name: str) -> str:
    return f"{number}-{name}.html"


def _static(name: str) -> str:
    return (files("tinyslm.course") / "static" / name).read_text("utf-8")
