"""Find documents that repeat another one exactly (by hash) or nearly (by MinHash signatures); keep the first.

The data structures are sorted arrays: a million documents take some tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyslm.data.config import DataConfig
from tinyslm.data.corpus import SIGNATURES, Corpus, Flags, Hashes, Ints
from tinyslm.data.similarity import SLOTS

BLOCK = 1 << 14  # rows of signatures in memory at a time
HIT_RATE = 0.9  # probability that two documents exactly at the threshold become candidates


class Drop(IntEnum):
    """The reason for dropping a document."""

    KEPT = 0
    EXACT_DUPLICATES = 1
    NEAR_DUPLICATES = 2
    IN_VALIDATION = 3


def find_duplicates(corpus: Corpus, held_out: Flags, config: DataConfig) -> NDArray[np.uint8]:
    """A `Drop` for every document, `[documents]`.

    `held_out` flags the documents for validation, which come first; training documents that repeat one of these are
    always dropped.
    """
    drops = np.zeros(len(held_out), np.uint8)

    def drop(earlier: Ints, later: Ints, reason: Drop) -> None:
        crossing = held_out[earlier] & ~held_out[later]
        drops[later[crossing]] = Drop.IN_VALIDATION
        if config.deduplicate:
            drops[later[~crossing]] = reason

    if not (config.deduplicate or held_out.any()):
        return drops
    order, first, repeats = _runs(corpus.document_hashes)
    drop(order[first], order[repeats], Drop.EXACT_DUPLICATES)
    if config.compares_nearly:
        for earlier, later in alike(corpus.folder / SIGNATURES, drops, config.near_duplicate_threshold):
            drop(earlier, later, Drop.NEAR_DUPLICATES)
    return drops


def alike(file: Path, drops: NDArray[np.uint8], threshold: float) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs (earlier, later) of documents whose signatures agree in at least `threshold` of the slots.

    Skips documents that are dropped before or during the iteration. Candidates agree in a whole band of slots; each is
    compared with the first of its band and with the previous one.
    """
    width = _band_width(threshold)
    for start in range(0, SLOTS, width):
        left = np.flatnonzero(drops == Drop.KEPT)
        order, first, repeats = _runs(_band_keys(file, len(drops), start, width)[left])
        rows = np.memmap(file, np.uint16, "r").reshape(-1, SLOTS)
        for earlier in (first, repeats - 1):
            for block in range(0, len(repeats), BLOCK):
                a = left[order[earlier[block : block + BLOCK]]]
                b = left[order[repeats[block : block + BLOCK]]]
                alike = np.count_nonzero(rows[a] == rows[b], axis=1) >= threshold * SLOTS
                yield a[alike], b[alike]


def _runs(keys: Hashes) -> tuple[Ints, Ints, Ints]:
    """Find runs of equal keys. Returns `(order, first, repeats)`.

    `order` sorts the keys, stably. `repeats` are the positions in `order` whose key equals the previous one, `first`
    the position at which the run of each starts.
    """
    order = np.argsort(keys, kind="stable")
    repeats = np.flatnonzero(keys[order[1:]] == keys[order[:-1]]) + 1
    start = np.arange(len(order))
    start[repeats] = 0
    return order, np.maximum.accumulate(start)[repeats], repeats


def _band_width(threshold: float) -> int:
    """The largest band, in slots, with which documents at the threshold agree in a band with probability `HIT_RATE`."""
    widths = [1 << power for power in range(SLOTS.bit_length())]
    return max(width for width in widths if width == 1 or 1 - (1 - threshold**width) ** (SLOTS // width) >= HIT_RATE)


def _band_keys(file: Path, count: int, start: int, width: int) -> Hashes:
    """A hash of the slots `start:start + width` of each row, `[count]`."""
    keys = np.zeros(count, np.uint64)
    for block in range(0, count, BLOCK):
        rows = np.fromfile(file, np.uint16, BLOCK * SLOTS, offset=block * SLOTS * 2).reshape(-1, SLOTS)
        key = keys[block : block + BLOCK]
        for column in range(start, start + width):
            key += rows[:, column]
            key *= np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
    return keys
