"""Replay: general text among the examples of fine-tuning, so that a model forgets less of what it knew.

A share of the rows of the batches are windows of the text, of which every token is learned. Their number follows from
the number of the batch alone, so a resumed run continues exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.data.examples import Example
from tinyslm.data.loader import Loader
from tinyslm.data.shards import Shards

FOLDER = "replay"
"""In an examples folder, the shards of the text."""


class Replay:
    """The rows of general text that belong into each batch of `batch` rows."""

    def __init__(self, data: Path, *, share: float, context: int, batch: int, seed: int) -> None:
        """data: the examples folder. Raises `TinyslmError` if the text is shorter than a row, or damaged."""
        split = Shards.open(data / FOLDER).split("train")
        self._loader = Loader(split, context=context, batch=1, seed=seed)
        self._per_batch, self._batches = share * batch, 0

    def next(self) -> list[list[Example]]:
        """The rows for the next batch: over many batches, `share` of all rows."""
        count = rows_until(self._batches + 1, self._per_batch) - rows_until(self._batches, self._per_batch)
        self._batches += 1
        windows = [self._loader.next()[0] for _ in range(count)]
        return [[Example(window, np.ones(len(window), bool))] for window in windows]

    def state(self) -> dict[str, Any]:
        """The position, as JSON values."""
        return {**self._loader.state(), "batches": self._batches}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a position that `state` gave."""
        self._batches = state["batches"]
        self._loader.restore(dict(state))


def rows_until(batches: int, per_batch: float) -> int:
    """Rows of general text in the first batches."""
    return math.floor(batches * per_batch + 1e-9)
