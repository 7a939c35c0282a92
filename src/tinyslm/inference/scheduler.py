"""Who computes what in the next step. Plain numbers: no tensors, no clocks, no threads.

Every sequence knows its tokens and how many of them are `stored` (their keys and values lie in blocks). A step takes
in one token of each sequence that is being generated, those guessed for it, and parts of prompts in what room is left,
so that a long prompt does not stall the others. When blocks run out, the sequence that matters least gives its own
back, and is computed again later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tinyslm.inference.blocks import ROOT, BlockPool, chain

LONG = b"long"
"""The root of the block keys of sequences that are longer than `Limits.switch`."""


@dataclass(eq=False)
class TokenSequence:
    """Tokens of one sample, and where their keys and values lie.

    priority, order: smaller goes first. after: begins once this one's prompt is stored, to share it. cached: how many
    tokens of the prompt were found stored. chain: tokens that are computed after the others, with the logits of
    each, before it is known whether they belong to the sequence; `done` says how many do.
    """

    tokens: list[int]
    priority: int = 0
    order: int = 0
    after: "TokenSequence | None" = None
    stored: int = 0
    cached: int = 0
    table: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    begun: bool = False
    chain: tuple[int, ...] = ()

    @property
    def missing(self) -> int:
        """Tokens that are not stored yet."""
        return len(self.tokens) - self.stored

    @property
    def rank(self) -> tuple[int, int]:
        """What it is sorted by."""
        return self.priority, self.order


@dataclass(frozen=True, eq=False)
class ScheduledStep:
    """The part of one sequence in one step: tokens `ids` at the positions from `start` on.

    wanted: how many of the last rows' logits are needed: none while a prompt is unfinished, else one, and one more
    for each guessed token or token of the chain.
    """

    sequence: TokenSequence
    start: int
    ids: tuple[int, ...]
    wanted: int


@dataclass(frozen=True)
class Limits:
    """sequences: most that run side by side. rows: most rows of a step that generates no tokens; busy_rows:
    most rows of prompts in a step that also generates tokens. switch: a sequence that grows longer than this is
    computed again from its beginning, since all its keys and values change (0: never).
    """

    sequences: int = 64
    rows: int = 512
    busy_rows: int = 64
    switch: int = 0


class Scheduler:
    """Sequences that run and wait, and the blocks they share."""

    def __init__(self, pool: BlockPool, block_size: int, limits: Limits) -> None:
        self.pool = pool
        self._size = block_size
        self._limits = limits
        self.waiting: list[TokenSequence] = []
        self.running: list[TokenSequence] = []

    def add(self, sequence: TokenSequence) -> None:
        """Wait for a place."""
        self.waiting.append(sequence)
        self.waiting.sort(key=lambda one: one.rank)

    def remove(self, sequence: TokenSequence) -> None:
        """It has ended: its place and blocks are free."""
        self._release(sequence)
        for place in (self.running, self.waiting):
            if sequence in place:
                place.remove(sequence)

    def restart(self, sequence: TokenSequence, tokens: Sequence[int]) -> None:
        """Go on from other tokens than those that are stored."""
        self._release(sequence)
        sequence.tokens = list(tokens)
        self._reuse(sequence)

    def extend(self, sequence: TokenSequence, tokens: Sequence[int]) -> None:
        """Append drawn tokens."""
        before = self._root(sequence)
        sequence.tokens.extend(tokens)
        if self._root(sequence) != before:
            self.restart(sequence, sequence.tokens)

    def room(self, sequence: TokenSequence) -> int:
        """How many tokens may be guessed after the next one without passing `Limits.switch`."""
        left = self._limits.switch - len(sequence.tokens)
        return left if self._limits.switch and left >= 0 else 1 << 30

    def plan(self, guesses: dict[TokenSequence, list[int]] | None = None) -> list[ScheduledStep]:
        """The parts of the next step; `guesses`: tokens that may follow a sequence's own, to be checked on the way.

        Sequences that are being generated go first, then prompts that have begun, then new ones.
        """
        steps: dict[TokenSequence, ScheduledStep] = {}
        generating = [one for one in sorted(self.running, key=_rank) if one.missing == 1]
        for sequence in generating:
            self._schedule(sequence, 1, (guesses or {}).get(sequence, []), steps)
        rows = self._limits.busy_rows if steps else self._limits.rows
        for sequence in sorted(self.running, key=_rank):
            if rows > 0 and sequence.missing > 1:
                rows -= self._schedule(sequence, min(rows, sequence.missing), [], steps)
        for sequence in list(self.waiting):
            if rows <= 0 or len(self.running) >= self._limits.sequences:
                break
            if self._may_begin(sequence):
                rows -= self._begin(sequence, rows, steps)
        return list(steps.values())

    def done(self, step: ScheduledStep, accepted: int = 0) -> None:
        """The part has been computed, and so many of its guessed tokens were right: they count as stored.

        To be called before tokens are appended to the sequence.
        """
        sequence = step.sequence
        sequence.stored = step.start + len(step.ids) - max(0, step.wanted - 1) + accepted
        self._name_full(sequence, [*sequence.tokens, *step.ids[len(step.ids) - max(0, step.wanted - 1) :]])

    def _begin(self, sequence: TokenSequence, rows: int, steps: dict[TokenSequence, ScheduledStep]) -> int:
        """Give a waiting sequence a place, if there are blocks for its first tokens."""
        self._reuse(sequence)
        if not sequence.begun:
            sequence.begun, sequence.cached = True, sequence.stored
        needed = self._blocks_for(sequence, sequence.stored + min(rows, sequence.missing))
        if needed > self.pool.available:
            self._release(sequence)
            return 0
        self.waiting.remove(sequence)
        self.running.append(sequence)
        return self._schedule(sequence, min(rows, sequence.missing), [], steps)

    def _may_begin(self, sequence: TokenSequence) -> bool:
        """Whether the sequence whose prompt it shares has stored it, or was removed."""
        first = sequence.after
        return first is None or first.missing <= 1 or (first not in self.running and first not in self.waiting)

    def _schedule(
        self, sequence: TokenSequence, count: int, guesses: list[int], steps: dict[TokenSequence, ScheduledStep]
    ) -> int:
        """Plan `count` tokens and the guesses behind them; returns the number of rows."""
        if sequence not in self.running:
            return 0  # it had to give its blocks to another one in this very step
        stop = sequence.stored + count
        finishes = stop == len(sequence.tokens)
        behind = sequence.chain if finishes else ()
        if guesses and not behind and self._blocks_for(sequence, stop + len(guesses)) <= self.pool.available:
            behind = tuple(guesses)
        if not self._make_room(sequence, stop + len(behind), steps):
            return 0
        ids = (*sequence.tokens[sequence.stored : stop], *behind)
        steps[sequence] = ScheduledStep(sequence, sequence.stored, ids, 1 + len(behind) if finishes else 0)
        return count

    def _make_room(self, sequence: TokenSequence, stop: int, steps: dict[TokenSequence, ScheduledStep]) -> bool:
        """Blocks for positions up to `stop`; others of lower rank give theirs first, or this one does."""
        while self._blocks_for(sequence, stop) > self.pool.available:
            idle = [one for one in self.running if one not in steps]
            last = max(idle, key=_rank)
            self._release(last)
            self.running.remove(last)
            self.add(last)
            if last is sequence:
                return False
        while len(sequence.table) * self._size < stop:
            block = self.pool.take()
            assert block is not None
            sequence.table.append(block)
        return True

    def _blocks_for(self, sequence: TokenSequence, stop: int) -> int:
        """How many blocks more it takes to hold positions up to `stop`."""
        return max(0, -(-stop // self._size) - len(sequence.table))

    def _reuse(self, sequence: TokenSequence) -> None:
        """Take the blocks that hold its beginning already; the last token is always computed, for its logits."""
        key = self._root(sequence)
        for start in range(0, len(sequence.tokens) - self._size, self._size):
            key = chain(key, sequence.tokens[start : start + self._size])
            block = self.pool.share(key)
            if block is None:
                break
            sequence.table.append(block)
            sequence.keys.append(key)
        sequence.stored = len(sequence.table) * self._size

    def _name_full(self, sequence: TokenSequence, tokens: list[int]) -> None:
        while (len(sequence.keys) + 1) * self._size <= sequence.stored:
            start = len(sequence.keys) * self._size
            key = chain(
                sequence.keys[-1] if sequence.keys else self._root(sequence), tokens[start : start + self._size]
            )
            self.pool.name(sequence.table[len(sequence.keys)], key)
            sequence.keys.append(key)

    def _root(self, sequence: TokenSequence) -> bytes:
        """The root of the sequence's block keys: short and long sequences share no blocks."""
        return LONG if 0 < self._limits.switch < len(sequence.tokens) else ROOT

    def _release(self, sequence: TokenSequence) -> None:
        for block in reversed(sequence.table):  # so that ends of sequences are given up before their beginnings
            self.pool.give(block)
        sequence.table, sequence.keys, sequence.stored = [], [], 0


def _rank(sequence: TokenSequence) -> tuple[int, int]:
    return sequence.rank
