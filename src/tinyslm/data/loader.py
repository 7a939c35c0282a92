"""A resumable loader of shuffled batches of windows from a split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import TokenSplit

ROUNDS = 4  # of the shuffling network; more do not make it more random


class Loader:
    """Endless batches of windows of `context + 1` tokens.

    An epoch contains each of the consecutive windows of the split once (the last token of a window is the first of the
    next), in an order that depends on the seed and the epoch. The offset of the first window differs between epochs,
    so the windows do too. A batch may span the end of an epoch.
    """

    def __init__(self, split: TokenSplit, *, context: int, batch: int, seed: int, rows: slice = slice(None)) -> None:
        """rows: the slice of each batch that this process reads. Raises `TinyslmError` for a split without a window."""
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
        self._position = 0  # number of windows of this epoch already returned

    def next(self) -> NDArray[np.int64]:
        """The next batch of windows, `[batch, context + 1]`, or its `rows`."""
        starts = self._starts()[self._rows]
        windows = np.empty((len(starts), self._context + 1), np.int64)
        for row, start in enumerate(starts):
            windows[row] = self._split.slice(start, self._context + 1)
        return windows

    def state(self) -> dict[str, Any]:
        """The position of the loader, as JSON values."""
        return {"epoch": self._epoch, "position": self._position}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a loader with the same split, context and seed."""
        self._epoch, self._position = state["epoch"], state["position"]

    def _starts(self) -> list[int]:
        """Token offsets of the windows of the next batch; advances the position."""
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
        """The token offset of the first window of this epoch, and the number of windows from there."""
        room = self._split.tokens - 1  # tokens that have a next token
        offset = int(self._keys()[-1] % np.uint64(min(self._context, room - self._context + 1)))
        return offset, (room - offset) // self._context

    def _keys(self) -> NDArray[np.uint64]:
        """The random numbers of this epoch."""
        return np.random.SeedSequence([self._seed, self._epoch]).generate_state(ROUNDS + 1, np.uint64).astype(np.uint64)


def permuted(positions: NDArray[np.int64], count: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Apply a random permutation of `count` numbers to `positions`, without a table of all numbers.

    A Feistel network permutes the numbers of an even number of bits; results outside `count` are permuted again until
    they are inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
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
