"""MinHash signatures of texts over sequences of five words, for finding near duplicates.

The share of slots in which two signatures agree estimates the Jaccard similarity of the sets of sequences. The
signature of a text is the slotwise minimum of the signatures of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SLOTS = 128
WORDS = 5  # words in a sequence
_SEED = 42
_SPACE, _WORD, _MARK, _LEAD = range(4)  # classes of bytes: between words, in a word, a whole word, first in a word

Hashes = NDArray[np.uint64]


def signatures(texts: Sequence[bytes]) -> NDArray[np.uint32]:
    """The signatures of UTF-8 texts, `[texts, SLOTS]`."""
    from rensa import RMinHash

    if not texts:
        return np.zeros((0, SLOTS), np.uint32)
    hashes, offsets = _sequences(texts)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, SLOTS, _SEED).to_rows()
    return np.array(rows, np.uint32)


def _sequences(texts: Sequence[bytes]) -> tuple[Hashes, NDArray[np.uint64]]:
    """The hashes of all sequences of `WORDS` words, and `[texts + 1]` offsets of the texts in these.

    A text of fewer words is one sequence.
    """
    starts, words = words_of(b"\n".join(texts))
    text_starts = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])])
    first_word = np.searchsorted(starts, text_starts)
    counts = np.diff(first_word, append=len(words))
    text_of_word = np.repeat(np.arange(len(texts)), counts)

    sequences = words.copy()
    whole = np.ones(len(words), bool)
    for distance in range(1, WORDS):
        same = text_of_word[distance:] == text_of_word[:-distance]
        sequences[:-distance] += np.where(same, words[distance:], 0) * np.uint64(pow(_ODD, distance + 1, 1 << 64))
        whole[:-distance] = same
        whole[len(whole) - distance :] = False
    whole[first_word[counts > 0]] = True
    offsets = np.searchsorted(np.flatnonzero(whole), [*first_word, len(words)])
    return _mix(sequences[whole]), offsets.astype(np.uint64)


_ODD = 0x9E3779B97F4A7C15


def words_of(data: bytes) -> tuple[NDArray[np.int64], Hashes]:
    """The start of each word, and a hash of its first and last eight bytes and its length.

    A word is a run of letters and digits, or one mark. Each character of three or more bytes begins a word, because
    scripts without spaces use these.
    """
    kinds = np.frombuffer(data.translate(_KINDS), np.uint8)
    before = np.concatenate([[np.uint8(_SPACE)], kinds[:-1]])
    start = (kinds >= _MARK) | ((kinds == _WORD) & ((before == _SPACE) | (before == _MARK)))
    edges = np.flatnonzero(start | (kinds == _SPACE))
    is_word = start[edges]
    starts = edges[is_word]
    lengths = np.diff(edges, append=len(data))[is_word]
    eight = np.ndarray(len(data) + 1, "<u8", data + b"\0" * 8, strides=(1,))  # the eight bytes from each position on
    first = eight[starts] & _LOW_BYTES[np.minimum(lengths, 8)]
    long = np.flatnonzero(lengths > 8)
    first[long] += eight[starts[long] + lengths[long] - 8] * np.uint64(0xC2B2AE3D27D4EB4F)
    return starts, _mix(first + lengths.astype(np.uint64))


def _mix(values: Hashes) -> Hashes:
    """Mix all bits (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _kind(byte: int) -> int:
    if byte <= ord(" ") or byte == 0x7F:
        return _SPACE
    if byte >= 0xE0:
        return _LEAD
    return _WORD if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_") else _MARK


_KINDS = bytes(_kind(byte) for byte in range(256))
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
