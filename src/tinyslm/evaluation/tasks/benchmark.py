"""What a published benchmark or a shipped set is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.task import Kind, Row
from tinyslm.inference.settings import SamplingSettings

Rows = Iterator[tuple[str, Row]]
"""Rows, each with its place for messages."""


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark, or a set that is shipped.

    rows: from a file in the published form to rows of `kind`, each with its place. hub: dataset, configuration and
    split on the Hugging Face hub, or nothing. file: of the set in the package, or "". metric: the one that is quoted;
    by default the kind's first. sampling: how answers are drawn.
    """

    kind: Kind
    rows: Callable[[Path], Rows] = rows_of
    hub: tuple[str, str, str] | None = None
    file: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    sampling: SamplingSettings | None = None
    about: str = ""
