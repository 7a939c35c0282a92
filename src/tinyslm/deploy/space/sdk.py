"""What runs a Space."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.deploy.bundle import Contents, Progress, no_limits

PORT = 7860
"""Where a Space listens."""


@dataclass(frozen=True)
class Sdk:
    """One way to run a Space: as a `Bundle`, but for `fields`: its part of the front matter."""

    name: str
    fields: Callable[[Contents], Mapping[str, Any]]
    accept: Callable[[Contents], None]
    write: Callable[[Contents, Path, Progress], None]
    check: Callable[[Contents, Path, Progress], Mapping[str, str]]
    usage: Callable[[Contents, Path], str]
    limits: Callable[[Contents], Sequence[str]] = no_limits
