"""Detect texts that occur in other texts: they share 13 consecutive words (as in GPT-3, arXiv 2005.14165).

The comparison ignores case and punctuation (straight or curly). A text of 8 to 12 words counts if another one contains
all of it; shorter texts are not checked, because a match would mean nothing.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyslm.data.similarity import Hashes, words_of

WORDS = 13
FEWEST_WORDS = 8
USUAL_WORDS = 5
CHUNK = 1 << 22  # bytes of training text at a time
FILTER_BITS = 24
_FILTER_SHIFT = np.uint64(64 - FILTER_BITS)
_FACTOR = 0x9E3779B97F4A7C15
_MARKS = tuple(mark.encode() for mark in "‘’‚“”„′«»–—…\u00a0")
"""Punctuation marks and a space of more than one UTF-8 byte, which would otherwise count as letters."""


class _Table:
    """Hashes of word sequences and the indices of the texts that contain them, for fast lookup."""

    def __init__(self, hashes: Hashes, owners: NDArray[np.intp]) -> None:
        self.hashes, self.owners = hashes, owners
        self._maybe = np.zeros(1 << FILTER_BITS, bool)  # a filter: whether any hash has these highest bits
        self._maybe[hashes >> _FILTER_SHIFT] = True

    def owners_of(self, sequences: Hashes) -> NDArray[np.intp]:
        """Indices of the texts that contain any of these sequences."""
        likely = sequences[self._maybe[sequences >> _FILTER_SHIFT]]
        return self.owners[np.isin(self.hashes, likely)] if len(likely) else self.owners[:0]


def overlapping(texts: Sequence[str], training: Iterable[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find texts that overlap with the training texts. Returns whether each overlaps, and whether it was long enough.

    Both arrays are `[texts]`.
    """
    words, owners = _words(texts)
    counts = np.bincount(owners, minlength=len(texts))
    tables: dict[int, _Table] = {}
    for length, sequences in _sequences(words, range(FEWEST_WORDS, WORDS + 1)):
        first, last = owners[: len(sequences)], owners[length - 1 :]
        mine = (first == last) & (np.minimum(counts[first], WORDS) == length)
        if mine.any():
            tables[length] = _Table(sequences[mine], first[mine])
    overlaps = np.zeros(len(texts), bool)
    for chunk in _chunks(training):
        for length, sequences in _sequences(_words([chunk])[0], tables):
            overlaps[tables[length].owners_of(sequences)] = True
    return overlaps, counts >= FEWEST_WORDS


def first_sources(texts: Sequence[str], training: Sequence[str], *, usual: int) -> NDArray[np.intp]:
    """For each text, the index of the first training text with which it overlaps, or -1; `[texts]`.

    usual: sequences of five words in more than this number of training texts are boilerplate, such as instructions;
    they are ignored in all texts.
    """
    first = np.full(len(texts), -1)
    words, owners = _words(texts)
    training_words, sources = _words(training)
    boilerplate = _frequent(training_words, sources, usual)
    words, owners = _without(boilerplate, words, owners)
    training_words, sources = _without(boilerplate, training_words, sources)
    counts = np.minimum(np.bincount(owners, minlength=len(texts)), WORDS)
    lengths = range(FEWEST_WORDS, WORDS + 1)
    for (length, sequences), (_, training_sequences) in zip(
        _sequences(words, lengths), _sequences(training_words, lengths), strict=False
    ):
        inside = sources[: len(training_sequences)] == sources[length - 1 :]
        order = np.argsort(training_sequences[inside], kind="stable")
        hashes, places_of = training_sequences[inside][order], sources[: len(training_sequences)][inside][order]
        whole = (owners[: len(sequences)] == owners[length - 1 :]) & (counts[owners[: len(sequences)]] == length)
        if not len(hashes) or not whole.any():
            continue
        places = np.minimum(np.searchsorted(hashes, sequences[whole]), len(hashes) - 1)
        same = hashes[places] == sequences[whole]
        for text, source in zip(owners[: len(sequences)][whole][same], places_of[places[same]], strict=True):
            first[text] = source if first[text] < 0 else min(first[text], source)
    return first


def _frequent(words: Hashes, owners: NDArray[np.intp], usual: int) -> Hashes:
    """Hashes of the sequences of `USUAL_WORDS` words that occur in more than `usual` texts."""
    for length, sequences in _sequences(words, [USUAL_WORDS]):
        inside = owners[: len(sequences)] == owners[length - 1 :]
        order = np.lexsort((owners[: len(sequences)][inside], sequences[inside]))
        hashes, texts = sequences[inside][order], owners[: len(sequences)][inside][order]
        first = np.ones(len(hashes), bool)  # whether a text has this sequence for the first time
        first[1:] = (hashes[1:] != hashes[:-1]) | (texts[1:] != texts[:-1])
        unique, counts = np.unique(hashes[first], return_counts=True)
        return unique[counts > usual]
    return words[:0]


def _without(boilerplate: Hashes, words: Hashes, owners: NDArray[np.intp]) -> tuple[Hashes, NDArray[np.intp]]:
    """Remove the words of boilerplate sequences. Returns the other words, and the index of the text of each."""
    keep = np.ones(len(words), bool)
    for length, sequences in _sequences(words, [USUAL_WORDS]):
        starts = np.flatnonzero(np.isin(sequences, boilerplate) & (owners[: len(sequences)] == owners[length - 1 :]))
        for place in range(length):
            keep[starts + place] = False
    return words[keep], owners[keep]


def _chunks(training: Iterable[str]) -> Iterator[str]:
    parts: list[str] = []
    size = 0
    for text in training:
        parts.append(text)
        size += len(text)
        if size >= CHUNK:
            yield "\n".join(parts)
            parts, size = [], 0
    yield "\n".join(parts)


def _words(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.intp]]:
    """The hashes of all words of the texts, without punctuation, and the index of the text of each."""
    encoded = [text.lower().encode("utf-8", "replace") for text in texts]
    for mark in _MARKS:
        encoded = [text.replace(mark, b" ") for text in encoded]
    data = b"\n".join(encoded) + b"\n"
    starts, hashes = words_of(data)
    first = np.frombuffer(data, np.uint8)[starts]
    is_word = (
        (first >= 0x80) | ((first >= ord("a")) & (first <= ord("z"))) | ((first >= ord("0")) & (first <= ord("9")))
    )
    text_starts = np.cumsum([0, *(len(text) + 1 for text in encoded[:-1])])
    return hashes[is_word], np.searchsorted(text_starts, starts[is_word], side="right") - 1


def _sequences(words: Hashes, lengths: Iterable[int]) -> Iterator[tuple[int, Hashes]]:
    """Yield, for each of the ascending `lengths`, the hashes of all sequences of that many words."""
    total, done = np.zeros(len(words), np.uint64), 0
    for length in lengths:
        if length > len(words):
            return
        for place in range(done, length):
            total[: len(words) - place] += words[place:] * np.uint64(pow(_FACTOR, place + 1, 1 << 64))
        done = length
        yield length, total[: len(words) - length + 1]
