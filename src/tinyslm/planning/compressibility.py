"""Measure how predictable a text is without a model; the planner's law uses it as the text's difficulty.

There are two measures of a sample, in bits per byte: a general compressor (xz) finds repetition within documents, and
counts of short contexts in some documents show how well others can be predicted.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyslm.evaluation.baselines import xz_bits_per_byte

SAMPLE = 1_000_000
"""The sample size of both measures in bytes; measures of smaller samples are extrapolated to it."""
ORDER = 5
"""Longest context in bytes."""
STRENGTH = 4.0
"""The number of occurrences of a context that has the same weight as the prediction from shorter contexts."""
TABLE_BITS = 22
HELD_OUT_EVERY = 5

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


def xz_bits(documents: Sequence[bytes]) -> float:
    """Bits per byte of the joined documents, compressed by xz."""

    def bits(sample: Sequence[bytes]) -> float:
        joined = b"\n".join(sample)
        return xz_bits_per_byte(joined, preset=6) * len(joined) / _size(sample)

    return _extrapolated(documents, bits)


def context_bits(documents: Sequence[bytes]) -> float:
    """Bits per byte of every fifth document, predicted from contexts of up to `ORDER` bytes in the others.

    The probability for each context length interpolates with that of the next shorter one, with fixed weight.
    """
    return _extrapolated(documents, _context_bits)


def _context_bits(documents: Sequence[bytes]) -> float:
    train = _Contexts(_joined([text for number, text in enumerate(documents) if number % HELD_OUT_EVERY]))
    held_out = _Contexts(_joined(documents[::HELD_OUT_EVERY]))
    probability = np.full(len(held_out.next), 1 / 256)
    for length in range(ORDER + 1):
        contexts = np.bincount(train.hashed(length), minlength=1 << TABLE_BITS)
        pairs = np.bincount(train.hashed(length, with_next=True), minlength=1 << TABLE_BITS)
        times = pairs[held_out.hashed(length, with_next=True)]
        probability = (times + STRENGTH * probability) / (contexts[held_out.hashed(length)] + STRENGTH)
    return float(-np.log2(probability).mean())


class _Contexts:
    """Hashes of the contexts of all bytes of a text but the first few."""

    def __init__(self, text: Bytes) -> None:
        self._text = text.astype(np.uint64)
        self.next = self._text[ORDER:]

    def hashed(self, length: int, *, with_next: bool = False) -> NDArray[np.int64]:
        """Hashes of the `length` bytes before each byte, or of these and the byte, as indices of a table."""
        value: Hashes = np.full(len(self.next), length + 1, np.uint64)
        for back in range(length, 0, -1):
            value = value * np.uint64(257) + self._text[ORDER - back : len(self._text) - back]
        if with_next:
            value = value * np.uint64(257) + self.next + np.uint64(1 << 60)
        mixed = value * np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(64 - TABLE_BITS)).astype(np.int64)


def _extrapolated(documents: Sequence[bytes], measure: Callable[[Sequence[bytes]], float]) -> float:
    """Measure a sample; extrapolate to `SAMPLE` bytes by the power law between half of the sample and the whole."""
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
