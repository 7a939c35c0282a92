"""What a model's bits per byte are to be compared with: numbers that need no model."""

import lzma
import math
from collections import Counter

from tinyslm.data.shards import Shards, TokenSplit

XZ_READS_AT_MOST = 32_000_000
"""Bytes of training text that xz is given; beyond that it would take minutes."""


def baselines(shards: Shards) -> dict[str, float]:
    """Bits per byte of the validation text by other means, the weakest first.

    unigram: the entropy of its own bytes. xz -9: its compressed size. xz -9 after the training text: how much longer
    the compressed training text becomes when the validation text follows (left out where there is too much of it).
    """
    held_out, training = text_of(shards, "valid"), shards.split("train")
    found = {"unigram": byte_entropy(held_out), "xz -9": xz_bits_per_byte(held_out)}
    if training.utf8_bytes <= XZ_READS_AT_MOST:
        found["xz -9 after the training text"] = xz_bits_per_byte(held_out, after=text_of(shards, "train"))
    return found


def text_of(shards: Shards, split: str) -> bytes:
    """All documents of a split as UTF-8, one after another."""
    part: TokenSplit = shards.split(split)
    decode = shards.tokenizer.decode_bytes
    return b"".join(decode(part.document(number)[:-1].tolist()) for number in range(part.documents))


def byte_entropy(text: bytes) -> float:
    """Bits per byte of the best code that knows only how often each byte occurs (Shannon, 1948)."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def xz_bits_per_byte(text: bytes, after: bytes = b"") -> float:
    """Bits that `xz -9` spends on each byte of `text`, when it has compressed `after` before."""
    size = len(lzma.compress(after + text, preset=9)) - (len(lzma.compress(after, preset=9)) if after else 0)
    return 8 * size / len(text)
