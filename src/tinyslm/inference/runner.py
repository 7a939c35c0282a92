"""What computes: rows of tokens in, logits out.

A row is one token at its place in one sequence. The next token of many sequences, a part of a long prompt, and tokens
that were only guessed are all just rows: the keys and values of all of them are stored first, then each sees what its
sequence holds up to its own position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tinyslm.inference.sampler import SamplingBatch
from tinyslm.inference.scheduler import ScheduledStep


@dataclass(frozen=True)
class Rows:
    """The rows of one step. Shape legend: r rows, q sequences, n blocks of the longest sequence, w wanted rows.

    ids, positions: `[r]`. sequences: `[r]`, the row of `tables` that each belongs to; the rows of a sequence stand
    together, by position. tables: `[q, n]`, numbers of the blocks that hold each sequence's keys and values, -1 where
    there are none. wanted: `[w]`, ascending, the rows whose logits are asked for. lengths: `[q]`, the number of
    tokens of each sequence, on which longrope depends; without it, the highest position decides. All int32.
    """

    ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    sequences: NDArray[np.int32]
    tables: NDArray[np.int32]
    wanted: NDArray[np.int32]
    lengths: NDArray[np.int32] | None = None


class Runner(Protocol):
    """A model with its keys and values in numbered blocks of `block_size` positions, which sequences may share."""

    name: str
    block_size: int
    vocab_size: int

    def run(self, rows: Rows) -> NDArray[np.float32]:
        """Logits `[w, vocab_size]` of the wanted rows; they are overwritten by the next call."""

    def draw(self, logits_wv: NDArray[np.float32], draws: SamplingBatch) -> NDArray[np.int32]:
        """Ids `[w]` of the tokens drawn from rows of logits: `sampler.draw`, or a faster way to the same."""

    def hidden(self, ids: Sequence[int]) -> NDArray[Any]:
        """Final hidden states of one text, fp32 `[t, dim]`; does not touch the blocks."""


def rows_of(steps: Sequence[ScheduledStep]) -> Rows:
    """The rows of one step."""
    counts = [len(step.ids) for step in steps]
    tables = np.full((len(steps), max(len(step.sequence.table) for step in steps)), -1, np.int32)
    for row, step in enumerate(steps):
        tables[row, : len(step.sequence.table)] = step.sequence.table
    stops = np.cumsum(counts)
    wanted = [np.arange(stop - step.wanted, stop) for stop, step in zip(stops, steps, strict=True)]
    return Rows(
        ids=np.array([token for step in steps for token in step.ids], np.int32),
        positions=np.concatenate([np.arange(step.start, step.start + len(step.ids)) for step in steps]).astype(
            np.int32
        ),
        sequences=np.repeat(np.arange(len(steps)), counts).astype(np.int32),
        tables=tables,
        wanted=np.concatenate(wanted).astype(np.int32),
        lengths=np.array([max(len(one.sequence.tokens), one.start + len(one.ids)) for one in steps], np.int32),
    )
