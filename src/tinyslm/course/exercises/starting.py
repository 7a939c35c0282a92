"""The file that an exercise starts from."""

from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.course.checking import file_of, no_exercise
from tinyslm.course.exercises import EXERCISES, Exercise
from tinyslm.course.exercises.exercise import lessons


def exercise_of(number: int) -> Exercise:
    """The exercise of a number. Raises `TinyslmError` if there is none."""
    names = list(EXERCISES)
    if not 1 <= number <= len(names):
        raise no_exercise(number, len(names))
    return EXERCISES[names[number - 1]]


def start_of(number: int) -> str:
    """The text of the file, below a comment that says which exercise it is."""
    exercise = exercise_of(number)
    comment = f"# Exercise {number}: {exercise.title}. Check it with: tinyslm learn check {number} {file_of(number)}\n"
    return comment + (lessons() / exercise.start).read_text("utf-8")


def write_start(number: int, file: Path) -> Exercise:
    """Write the file. Raises `TinyslmError` if it exists, or there is no such exercise."""
    text = start_of(number)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise TinyslmError(f"{file} exists already.", "Give another file with --out: nothing is overwritten.") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise TinyslmError(f"The folder of {file} does not exist.", "Give a file in an existing folder.") from None
    return exercise_of(number)
