"""What a model's bits per byte are to be compared with: numbers that need no model."""

import lzma
import math
from collections import Counter


def baselines(held_out: bytes, training: bytes | None) -> dict[str, float]:
    """Bits per byte of the held-out text by other means, the weakest first.

    unigram: the entropy of its own bytes. xz -9: its compressed size. xz -9 after the training text: how much longer
    the compressed training text becomes when the held-out text follows (left out where that is `None`).
    """
    found = {"unigram": byte_entropy(held_out), "xz -9": xz_bits_per_byte(held_out)}
    if training is not None:
        found["xz -9 after the training text"] = xz_bits_per_byte(held_out, after=training)
    return found


def byte_entropy(text: bytes) -> float:
    """Bits per byte of the best code that knows only how often each byte occurs (Shannon, 1948)."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def xz_bits_per_byte(text: bytes, after: bytes = b"", preset: int = 9) -> float:
    """Bits that xz spends on each byte of `text`, when it has compressed `after` before."""
    size = len(lzma.compress(after + text, preset=preset))
    return 8 * (size - (len(lzma.compress(after, preset=preset)) if after else 0)) / len(text)
