"""Pack token sequences into rows that store common prefixes once.

In lexicographic order, neighbouring sequences share the longest prefixes. A row holds several sequences as a tree:
each token attends to itself and its ancestors. The model then computes the common prefix of similar sentences, or of
the answers to one question, only once, without padding. (Tree attention, as in SpecInfer, arXiv 2305.09781.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Row:
    """Tokens of several sequences. Shape legend: t tokens of the row.

    ids, positions, parents: of each token; a parent is an index into the row, -1 for a root. paths: by the index of a
    sequence, the indices of its tokens in the row.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)

    def add(self, number: int, sequence: Sequence[int], shared: list[int]) -> list[int]:
        """Append the tokens after the prefix, whose indices in the row are `shared`; returns the indices of all."""
        path = list(shared)
        for position in range(len(shared), len(sequence)):
            self.parents.append(path[-1] if path else -1)
            path.append(len(self.ids))
            self.ids.append(sequence[position])
            self.positions.append(position)
        self.paths[number] = path
        return path

    def mask(self, size: int) -> NDArray[np.bool_]:
        """Which tokens each token attends to, `[size, size]`; padding attends only to itself."""
        mask_tt = np.eye(size, dtype=bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                mask_tt[place] |= mask_tt[parent]
        return mask_tt


def pack(sequences: Sequence[Sequence[int]], size: int) -> Iterator[Row]:
    """Pack each sequence once, into rows of at most `size` tokens; a longer sequence gets its own row."""
    row, last, last_path = Row(), (), []  # type: Row, Sequence[int], list[int]
    for number in sorted(range(len(sequences)), key=lambda one: tuple(sequences[one])):
        sequence = sequences[number]
        shared = _common(last, sequence)
        if row.ids and len(row.ids) + len(sequence) - shared > size:
            yield row
            row, shared, last_path = Row(), 0, []
        last_path = row.add(number, sequence, last_path[:shared])
        last = sequence
    if row.paths:
        yield row


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common prefix."""
    for place, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return place
    return min(len(a), len(b))
