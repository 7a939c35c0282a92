"""Learn the pieces of a Unigram tokenizer from counted words, always the same ones from the same words.

As in Kudo, "Subword Regularization", 2018, and SentencePiece: begin with all frequent substrings; estimate their
probabilities by expectation maximization over all ways to cut the words; drop those whose loss would change the
likelihood least; repeat until the size is reached. (The trainer of the `tokenizers` library gives other pieces each
time for equal texts.)

Shape legend: c characters of all words side by side, w words, e edges: each is a place where a piece may stand in a
word, p pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LONGEST_PIECE = 16  # characters
SEEDS = 8  # pieces to begin with for each that is wanted
KEPT = 0.75  # share of the pieces that a round keeps at least
ESTIMATIONS = 2  # in each round
MARGIN = 1.1  # of these pieces for each that is wanted, the most probable ones are used
TINY = 1e-6  # expected occurrences that are never fallen below
LEAST = 0.5  # expected occurrences of a piece that is used
MOST_CHARACTERS = 1_000_000  # of different words, the most frequent ones


def learned_pieces(counts: Mapping[str, int], wanted: int) -> list[tuple[str, float]]:
    """At most `wanted` pieces with their log-probabilities, the most probable first.

    counts: how often each word occurs, words of some ten characters. There are fewer pieces if the words have fewer
    substrings that occur twice; single characters count from the first time on.
    """
    text = _Text.of(counts)
    if not len(text.begins):
        return []
    pieces = _Pieces.seeds(text, SEEDS * wanted)
    while True:
        for _ in range(ESTIMATIONS):
            pieces.estimate(text)
        if (now := int(pieces.alive.sum())) <= (enough := max(int(MARGIN * wanted), pieces.singles)):
            break
        pieces.prune(max(enough, int(KEPT * now)))
    found = [(pieces.name(text, piece), round(float(np.log(pieces.share[piece])), 4)) for piece in pieces.found]
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))[:wanted]


@dataclass(frozen=True)
class _Text:
    """Different words side by side. codes [c]; begins, lengths, counts [w]."""

    codes: Ints
    begins: Ints
    lengths: Ints
    counts: Floats

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> _Text:
        ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        lengths = np.array([len(word) for word, _ in ordered], np.int64)
        fitting = int(np.searchsorted(np.cumsum(lengths), MOST_CHARACTERS, "right"))
        words, lengths = ordered[:fitting], lengths[:fitting]
        codes = np.frombuffer("".join(word for word, _ in words).encode("utf-32-le"), "<u4").astype(np.int64)
        return cls(codes, np.cumsum(lengths) - lengths, lengths, np.array([count for _, count in words], np.float64))


class _Pieces:
    """Substrings and where they stand.

    share: probability of each piece [p]. alive: whether it is still one [p]. places: where it stands first, in the
    codes [p]. sizes: characters [p]. table: the piece of n characters that begins at a character, or -1 [n, c].
    """

    def __init__(self, text: _Text, table: Ints, weights: Floats) -> None:
        self.table = table
        count = len(weights)
        self.sizes = np.zeros(count, np.int64)
        self.places = np.zeros(count, np.int64)
        for size in range(len(table), 0, -1):
            places = np.flatnonzero(table[size - 1] >= 0)[::-1]
            self.places[table[size - 1, places]] = places
            self.sizes[table[size - 1, places]] = size
        self.alive = np.ones(count, bool)
        self.singles = int((self.sizes == 1).sum())
        self._total = float(weights.sum())
        self.share = weights / self._total
        self._edges = _edges(text, table)

    @classmethod
    def seeds(cls, text: _Text, most: int) -> _Pieces:
        """All characters, and of the longer substrings that occur at least twice those with the most characters."""
        word_of = np.repeat(np.arange(len(text.lengths)), text.lengths)
        left = np.repeat(text.begins + text.lengths, text.lengths) - np.arange(len(text.codes))
        counts_c = text.counts[word_of]
        longest = min(LONGEST_PIECE, int(text.lengths.max()))
        table = np.full((longest, len(text.codes)), -1, np.int64)
        weights: list[Floats] = []
        total = 0
        for size in range(1, longest + 1):
            places = np.flatnonzero(left >= size)
            if size == 1:
                keys = text.codes
            else:  # a substring is as frequent as its parts at most
                first, second = table[size - 2, places], table[size - 2, places + 1]
                places = places[(first >= 0) & (second >= 0)]
                keys = (table[size - 2, places] << 32) | table[size - 2, places + 1]
            _, inverse = np.unique(keys, return_inverse=True)
            found = np.bincount(inverse, counts_c[places])
            kept = np.ones(len(found), bool) if size == 1 else found >= 2
            numbers = np.where(kept, total + np.cumsum(kept) - 1, -1)
            table[size - 1, places] = numbers[inverse]
            weights.append(size * found[kept].astype(np.float64))
            total += int(kept.sum())
        weights_p = np.concatenate(weights)
        singles = len(weights[0])
        order = np.argsort(-weights_p[singles:], kind="stable")[: max(0, most - singles)] + singles
        return cls(text, *_renumbered(table, weights_p, np.concatenate([np.arange(singles), np.sort(order)])))

    @property
    def found(self) -> Ints:
        """The numbers of the pieces that are used."""
        return np.flatnonzero(self.alive & (self.share * self._total >= LEAST))

    def name(self, text: _Text, piece: int) -> str:
        place = self.places[piece]
        return text.codes[place : place + self.sizes[piece]].astype("<u4").tobytes().decode("utf-32-le")

    def estimate(self, text: _Text) -> None:
        """Set the shares to those that the words have by the current shares."""
        edges = self._edges = self._edges.of(self.alive)
        longest, words = int(text.lengths.max()), len(text.lengths)
        share_e = self.share[edges.piece]
        before = np.zeros((longest + 1, words))  # probability of what stands before a character of a word
        before[0] = 1
        for end, part in _groups(edges.end, longest):
            before[end] = np.bincount(
                edges.word[part], before[edges.begin[part], edges.word[part]] * share_e[part], minlength=words
            )
        behind = np.zeros((longest + 1, words))
        behind[text.lengths, np.arange(words)] = 1
        order = edges.by_begin
        for begin, part in reversed(list(_groups(edges.begin[order], longest))):
            some = order[part]
            behind[begin] += np.bincount(
                edges.word[some], behind[edges.end[some], edges.word[some]] * share_e[some], minlength=words
            )
        weight_w = text.counts / behind[0]
        expected = before[edges.begin, edges.word] * share_e * behind[edges.end, edges.word] * weight_w[edges.word]
        occurrences = np.bincount(edges.piece, expected, minlength=len(self.share))
        occurrences = np.where(self.alive, np.maximum(occurrences, np.where(self.sizes == 1, LEAST, TINY)), 0)
        self._total = float(occurrences.sum())
        self.share = occurrences / self._total

    def prune(self, most: int) -> None:
        """Keep single characters, and, up to `most` pieces, those that raise the likelihood most.

        What a piece raises it by is estimated from the best way to write the piece with others.
        """
        with np.errstate(divide="ignore"):
            score = np.append(np.log(self.share), -np.inf)  # the last one is for -1
        value = np.full(len(self.share), -np.inf)
        for size in range(2, len(self.table) + 1):
            group = np.flatnonzero(self.alive & (self.sizes == size))
            best = np.full((size + 1, len(group)), -np.inf)
            best[0] = 0
            for end in range(1, size + 1):
                for begin in range(end):
                    if (begin, end) != (0, size):
                        piece = self.table[end - begin - 1, self.places[group] + begin]
                        best[end] = np.maximum(best[end], best[begin] + score[piece])
            value[group] = self.share[group] * (score[group] - best[size])
        value[self.sizes == 1] = np.inf
        self.alive = np.zeros_like(self.alive)
        self.alive[np.argsort(-value, kind="stable")[:most]] = True
        self.share = np.where(self.alive, self.share, 0)


@dataclass(frozen=True)
class _Edges:
    """piece, word, and the first and the last character in the word plus one [e], in the order of `end`."""

    piece: Ints
    word: Ints
    begin: Ints
    end: Ints
    by_begin: Ints

    def of(self, alive: NDArray[np.bool_]) -> _Edges:
        """Those of the pieces that are alive."""
        kept = alive[self.piece]
        if kept.all():
            return self
        return _ordered(self.piece[kept], self.word[kept], self.begin[kept], self.end[kept])


def _edges(text: _Text, table: Ints) -> _Edges:
    sizes, places = np.nonzero(table >= 0)
    word = np.searchsorted(text.begins, places, "right") - 1
    begin = places - text.begins[word]
    end = begin + sizes + 1
    order = np.argsort(end, kind="stable")
    return _ordered(table[sizes, places][order], word[order], begin[order], end[order])


def _ordered(piece: Ints, word: Ints, begin: Ints, end: Ints) -> _Edges:
    return _Edges(piece, word, begin, end, np.argsort(begin, kind="stable"))


def _groups(values: Ints, most: int) -> list[tuple[int, slice]]:
    """Slices of equal values in sorted ones."""
    bounds = np.searchsorted(values, np.arange(most + 2))
    return [
        (value, slice(bounds[value], bounds[value + 1]))
        for value in range(most + 1)
        if bounds[value] < bounds[value + 1]
    ]


def _renumbered(table: Ints, weights: Floats, kept: Ints) -> tuple[Ints, Floats]:
    """The table and the weights with these pieces only."""
    new = np.full(len(weights) + 1, -1, np.int64)  # the last one is for -1
    new[kept] = np.arange(len(kept))
    return new[table], weights[kept]
