"""`tinyslm learn`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tinyslm.cli.asking import FAILED, Text

learn = App(name="learn", default_parameter=Parameter(negative=()))  # no --no-json


@learn.default
def course(
    model: Path | None = None,
    /,
    *,
    text: Annotated[str, Text, Parameter(name=["--text", "-t"])] = "",
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("course"),
    minutes: float = 2.0,
    no_open: bool = False,
    json: bool = False,
) -> None:
    """Write a course that explains every part of a model with the model's own numbers, as pages for a browser.

    Without a model, a small one is trained first, on the Python standard library. The pages have exercises, too:
    `tinyslm learn start 1` writes the file of the first one, `tinyslm learn check 1` checks your solution.

    Parameters
    ----------
    model
        A run folder or a model folder. A run with `--train.snapshots 8` also shows how the model changed in training.
    text
        The sentence that the chapters follow through the model; `@FILE` reads it from a file.
    out
        The folder to write.
    minutes
        How long the training may take if no model is given.
    no_open
        Do not open the pages in a browser.
    json
        Print the path of the table of contents as JSON, and open no browser.
    """
    from time import monotonic, process_time

    began = monotonic() - process_time()

    from tinyslm.cli.progress import stopping, watching
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.course.writing import learn as make

    with stopping(out.with_name(f"{out.name}-run"), json=json), watching(began, json=json) as watch:
        contents = make(model, out, text=text, minutes=minutes, watch=watch)
    if json:
        tell({"contents": contents})
        return
    say(f"Open in a browser: {contents}")
    if not no_open and has_a_browser():
        import webbrowser

        webbrowser.open(contents.resolve().as_uri())


def has_a_browser() -> bool:
    """Whether a person runs this at a display: not in a pipe, and not on a machine without a screen."""
    import os

    display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.stdout.isatty() and bool(display)


@learn.command
def check(number: int, file: Path | None = None, /, *, json: bool = False) -> None:
    """Check the solution of an exercise, and say for each check whether it passed and why not.

    The file runs in a process of its own, with limits on time and memory. The exit code is 0 if all checks passed, and
    4 otherwise.

    Parameters
    ----------
    number
        The number of the exercise.
    file
        Your solution; by default the file that `tinyslm learn start` writes, in this folder.
    json
        Print the results as JSON.
    """
    from dataclasses import asdict

    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.course.checking import check_exercise, file_of

    file = file or Path(file_of(number))
    result = check_exercise(number, file)
    if json:
        tell({"exercise": number, "file": file, "passed": result.passed, **asdict(result)})
    else:
        say(f"Exercise {number}: {result.title}\n")
        if result.problem:
            say(f"Nothing was checked. {result.problem}")
        for one in result.checks:
            say(f"  {'passed' if one.passed else 'FAILED'}  {one.description}")
            if one.message:
                say(f"          {one.message}")
        if result.checks:
            say(f"\n{sum(one.passed for one in result.checks)} of {len(result.checks)} checks passed.")
    if not result.passed:
        sys.exit(FAILED)


@learn.command
def start(
    number: int,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    json: bool = False,
) -> None:
    """Write the file that an exercise starts from, and say what the task is.

    Parameters
    ----------
    number
        The number of the exercise.
    out
        The file to write, which must be new; by default exercise_NUMBER.py in this folder.
    json
        Print the name of the file and the task as JSON.
    """
    from textwrap import fill

    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.course.checking import file_of
    from tinyslm.course.exercises.starting import write_start

    file = out or Path(file_of(number))
    exercise = write_start(number, file)
    if json:
        tell({"exercise": number, "file": file, "title": exercise.title, "task": list(exercise.task)})
        return
    say(f"Exercise {number}: {exercise.title}\n")
    for paragraph in exercise.task:
        say(fill(paragraph, 100) + "\n")
    say(f"Change {file}, then run: tinyslm learn check {number}{f' {file}' if out else ''}")
