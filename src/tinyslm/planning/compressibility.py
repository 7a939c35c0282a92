"""How much of a text is predictable, measured without a model: what the planner's law takes for the text's difficulty.

Two measures of a sample, in bits per byte, as they see different things: a general compressor finds what repeats within
a document (xz), and counts of short contexts in some documents tell how well others can be foretold.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyslm.evaluation.baselines import xz_bits_per_byte

SAMPLE = 1_000_000
"""Bytes that both measures are meant for; what is measured on fewer is carried on to so many."""
ORDER = 5
"""Longest context in bytes."""
STRENGTH = 4.0
"""How many occurrences of a context weigh as much as what shorter contexts say."""
TABLE_BITS = 22
HELD_OUT_EVERY = 5

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


def xz_bits(documents: Sequence[bytes]) -> float:
    """Bits per byte of the documents together, compressed by xz."""

    def bits(some: Sequence[bytes]) -> float:
        joined = b"\n".join(some)
        return xz_bits_per_byte(joined, preset=6) * len(joined) / _size(some)

    return _carried_on(documents, bits)


def context_bits(documents: Sequence[bytes]) -> float:
    """Bits per byte of every fifth document, predicted from contexts of up to `ORDER` bytes in the others.

    Counts of each length of context are mixed with those of the next shorter one, at fixed strength.
    """
    return _carried_on(documents, _context_bits)


def _context_bits(documents: Sequence[bytes]) -> float:
    seen = _joined([text for number, text in enumerate(documents) if number % HELD_OUT_EVERY])
    held_out = _joined(documents[::HELD_OUT_EVERY])
    known, asked = _Contexts(seen), _Contexts(held_out)
    probability = np.full(len(asked.next), 1 / 256)
    for length in range(ORDER + 1):
        contexts = np.bincount(known.hashed(length), minlength=1 << TABLE_BITS)
        pairs = np.bincount(known.hashed(length, with_next=True), minlength=1 << TABLE_BITS)
        times = pairs[asked.hashed(length, with_next=True)]
        probability = (times + STRENGTH * probability) / (contexts[asked.hashed(length)] + STRENGTH)
    return float(-np.log2(probability).mean())


class _Contexts:
    """For every byte of a text but the first few: hashes of the bytes before it."""

    def __init__(self, text: Bytes) -> None:
        self._text = text.astype(np.uint64)
        self.next = self._text[ORDER:]

    def hashed(self, length: int, *, with_next: bool = False) -> NDArray[np.int64]:
        """Places in a table: of the `length` bytes before each byte, or of these and the byte itself."""
        value: Hashes = np.full(len(self.next), length + 1, np.uint64)
        for back in range(length, 0, -1):
            value = value * np.uint64(257) + self._text[ORDER - back : len(self._text) - back]
        if with_next:
            value = value * np.uint64(257) + self.next + np.uint64(1 << 60)
        mixed = value * np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(64 - TABLE_BITS)).astype(np.int64)


def _carried_on(documents: Sequence[bytes], measure: Callable[[Sequence[bytes]], float]) -> float:
    """A measure of a sample smaller than `SAMPLE`, extended by the power law between its half and the whole."""
    whole = measure(documents)
    size = _size(documents)
    half = documents[: len(documents) // 2]
    if size >= 0.8 * SAMPLE or len(half) < 2 * HELD_OUT_EVERY:
        return whole
    slope = math.log(measure(half) / whole) / math.log(size / _size(half))
    return whole * math.pow(SAMPLE / size, -min(0.1, max(0.0, slope)))


def _joined(documents: Sequence[bytes]) -> Bytes:
    return np.frombuffer(b"\n".join(documents) + bytes(ORDER + 1), np.uint8)


def _size(documents: Sequence[bytes]) -> int:
    return max(1, sum(map(len, documents)))
