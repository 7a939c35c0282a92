"""How a task is loaded: a published benchmark, a built-in set, or the data of a pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.task import Kind, Row
from tinyslm.inference.settings import SamplingSettings

Rows = Iterator[tuple[str, Row]]
"""Rows, each with its location for error messages."""


@dataclass(frozen=True)
class TaskConfig:
    """Where the examples of a `Task` come from, and how they are read; what lm-eval calls by the same name.

    rows: converts a file in the published format to rows of `kind`, each with its location. hub: dataset, configuration
    and split on the Hugging Face hub, or `None`. file: the built-in set's file in `evaluation/sets/`, or "". make:
    makes the rows of a set that is generated. options: options of the kind's `read`. metric: the primary metric; by
    default the kind's first. sampling: how answers are generated.
    """

    kind: Kind
    rows: Callable[[Path], Rows] = rows_of
    hub: tuple[str, str, str] | None = None
    file: str = ""
    make: Callable[[], Rows] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    sampling: SamplingSettings | None = None
    about: str = ""
