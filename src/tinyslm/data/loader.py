"""Batches of windows from a split, in an order that can be left and taken up again anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import TokenSplit

ROUNDS = 4  # of the shuffling network; more do not make it more random


class Loader:
    """Endless batches of windows of `context + 1` tokens.

    In an epoch, windows that lie end to end (the last token of one is the first of the next) over the whole split
    are each given once, in an order that depends on the seed and the epoch. Where the first one starts differs from
    epoch to epoch, so that windows are cut elsewhere. A batch that starts at the end of an epoch goes on in the next.

    Its state is two numbers, `state()`.
    """

    def __init__(self, split: TokenSplit, *, context: int, batch: int, seed: int, rows: slice = slice(None)) -> None:
        """rows: which windows of each batch to read, where several processes share one."""
        if split.tokens < context + 1:
            raise TinyslmError(
                f"The {split.name} split has {split.tokens} tokens; a window of context {context} needs {context + 1}.",
                "Give more text, or a smaller context.",
            )
        self._split = split
        self._context = context
        self._batch = batch
        self._seed = seed
        self._rows = rows
        self._epoch = 0
        self._position = 0  # windows of this epoch that were given

    def next(self) -> NDArray[np.int64]:
        """The next windows: `[batch, context + 1]`, or those of `rows`."""
        starts = self._starts()[self._rows]
        windows = np.empty((len(starts), self._context + 1), np.int64)
        for row, start in enumerate(starts):
            windows[row] = self._split.slice(start, self._context + 1)
        return windows

    def state(self) -> dict[str, Any]:
        """Where the loader is, for JSON."""
        return {"epoch": self._epoch, "position": self._position}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where another loader with the same split, context and seed was."""
        self._epoch, self._position = state["epoch"], state["position"]

    def _starts(self) -> list[int]:
        """Where the windows of the next batch start; moves on."""
        starts: list[int] = []
        while len(starts) < self._batch:
            offset, count = self._epoch_windows()
            end = min(count, self._position + self._batch - len(starts))
            order = permuted(np.arange(self._position, end), count, self._keys())
            starts += (offset + order * self._context).tolist()
            self._position = end
            if end == count:
                self._epoch, self._position = self._epoch + 1, 0
        return starts

    def _epoch_windows(self) -> tuple[int, int]:
        """Where the first window of this epoch starts, and how many windows follow each other from there."""
        room = self._split.tokens - 1  # tokens that can be first in a pair of token and next token
        offset = int(self._keys()[-1] % np.uint64(min(self._context, room - self._context + 1)))
        return offset, (room - offset) // self._context

    def _keys(self) -> NDArray[np.uint64]:
        """The random numbers of this epoch."""
        return np.random.SeedSequence([self._seed, self._epoch]).generate_state(ROUNDS + 1, np.uint64).astype(np.uint64)


def permuted(positions: NDArray[np.int64], count: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each of `positions` (below `count`) goes in a random permutation of `count` numbers, without a table.

    A Feistel network permutes the numbers of an even number of bits; what falls outside `count` goes through it again
    until it falls inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
    """
    half = np.uint64(max((count - 1).bit_length() + 1, 2) // 2)
    low = (np.uint64(1) << half) - np.uint64(1)
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        left, right = values[outside] >> half, values[outside] & low
        for key in keys[:ROUNDS]:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & low)
        values[outside] = (left << half) | right
        outside = outside[values[outside] >= count]
    return values.astype(np.int64)
