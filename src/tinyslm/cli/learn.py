"""`tinyslm learn`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tinyslm.cli.asking import Text


def learn(
    model: Path | None = None,
    /,
    *,
    text: Annotated[str, Text, Parameter(name=["--text", "-t"])] = "",
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("course"),
    minutes: float = 2.0,
    json: bool = False,
) -> None:
    """Write a course that explains every part of a model with the model's own numbers, as pages for a browser.

    Without a model, a small one is trained first, on the Python standard library.

    Parameters
    ----------
    model
        A run folder or a model folder. A run with `--train.snapshots 8` also shows how the model changed.
    text
        The sentence that the chapters follow through the model; `@FILE` reads it from a file.
    out
        The folder to write.
    minutes
        How long the training may take if no model is given.
    json
        Print where the table of contents is as JSON.
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
    else:
        say(f"Open in a browser: {contents}")
