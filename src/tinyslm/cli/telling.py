"""What verbs print with `--json`: one JSON value on standard output and nothing else; progress is not shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def working(
    title: str, *, json: bool, unit: Callable[[float], str] | None = None
) -> AbstractContextManager[Callable[[str, int, int], None]]:
    """The progress of work below its title, in bytes or another unit; silent with `--json`."""
    from tinyslm.core.console import work_progress
    from tinyslm.core.quantities import size
    from tinyslm.data.documents import silent

    return nullcontext(silent) if json else work_progress(title, unit or size)


def tell(value: Any) -> None:
    """Print a value as JSON on one line; paths as text."""
    from json import dumps

    from tinyslm.core.console import stream

    stream(dumps(value, default=str) + "\n")
