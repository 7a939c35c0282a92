"""A small model that guesses for a large one what comes next (Leviathan et al., 2023; Chen et al., 2023).

It only guesses: each guess is checked as any other is (see `speculation.py`), so that the text stays the large model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.runner import Rows
from tinyslm.inference.runners import MakeRunner, make_runner
from tinyslm.inference.torch_runner import BLOCK
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

TEXTS = 4
"""Texts of full length that there is room for; the one guessed for the longest ago gives its room to another."""
AT_ONCE = 256
"""Tokens of a prompt that are read at once."""
CERTAIN = 0.4
"""Guessing ends before a token that the small model itself finds less likely, as transformers' assistants do."""


class Draft:
    """A small model, with room for the keys and values of a few texts; `guesser` gives what guesses for one text."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        runner: MakeRunner = make_runner,
        longest: int = 8,
        texts: int = TEXTS,
    ) -> None:
        """runner: as of `Engine`. longest: most tokens guessed at once."""
        self.context, self.longest, self.stop_ids = model.config.longest, longest, frozenset(tokenizer.stop_ids)
        self._size = tokenizer.vocab_size  # some models have logits for more
        count = texts * -(-self.context // BLOCK)
        self._runner = runner(model, count)
        self._free = list(range(count))
        self._guessers: WeakSet[DraftGuesser] = WeakSet()
        self._clock = 0

    def guesser(self) -> DraftGuesser:
        """What guesses for one text."""
        made = DraftGuesser(self)
        self._guessers.add(made)
        return made

    def make_room(self, guesser: DraftGuesser, length: int) -> None:
        """Blocks for so many tokens of a text, which others may have to give."""
        self._clock += 1
        guesser.used = self._clock
        needed = -(-length // BLOCK) - len(guesser.table)
        while len(self._free) < needed:
            others = [one for one in self._guessers if one is not guesser and one.table]
            min(others, key=lambda one: one.used).forget()
        for _ in range(needed):
            guesser.table.append(self._free.pop())

    def give_back(self, blocks: list[int]) -> None:
        """They are free again."""
        self._free += blocks

    def read(self, ids: Sequence[int], start: int, table: Sequence[int]) -> NDArray[np.float32]:
        """Store tokens from the position `start` on; logits `[vocab_size]` of what follows them."""
        logits_wv = np.empty((0, 0), np.float32)
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            last = [len(some) - 1] if first + len(some) == len(ids) else []
            places = np.arange(len(some), dtype=np.int32)
            logits_wv = self._runner.run(
                Rows(
                    ids=np.array(some, np.int32),
                    positions=places + np.int32(start + first),
                    sequences=np.zeros_like(places),
                    tables=np.array([table], np.int32),
                    wanted=np.array(last, np.int32),
                )
            )
        found: NDArray[np.float32] = logits_wv[0, : self._size]
        return found


class DraftGuesser:
    """A small model's guesses for one text: see `Guesser`.

    Attributes: `table` of the blocks that hold what was read; `used`: when it guessed last.
    """

    def __init__(self, draft: Draft) -> None:
        self.table: list[int] = []
        self.used = 0
        self._draft = draft
        self._read: list[int] = []  # tokens that are stored, guessed ones among them
        self._certain = 0  # of these, so many are known to be the text's
        self._length = min(4, draft.longest)

    def __del__(self) -> None:
        self._draft.give_back(self.table)

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """What the small model finds likeliest, while it is sure enough; nothing beyond its context."""
        count = min(self._length, most, self._draft.context - len(tokens))
        if count < 1:
            return []
        self._cut(tokens)
        self._draft.make_room(self, len(tokens) + count - 1)
        guesses: list[int] = []
        new = list(tokens[len(self._read) :])
        while True:
            logits_v = self._draft.read(new, len(self._read), self.table)
            self._read += new
            token = int(logits_v.argmax())
            if 1 / np.exp(logits_v - logits_v[token]).sum() < CERTAIN:
                break
            guesses.append(token)
            if len(guesses) == count or token in self._draft.stop_ids:
                break
            new = [token]
        self._certain = len(tokens)
        return guesses

    def learn(self, guessed: int, accepted: int) -> None:
        """Guess two more after a full success and one less otherwise, as transformers' assistants do."""
        change = 2 if accepted == guessed else -1
        self._length = max(1, min(self._draft.longest, self._length + change))

    def forget(self) -> None:
        """Give up the blocks; everything is read again when needed."""
        self._draft.give_back(self.table)
        self.table, self._read, self._certain = [], [], 0

    def _cut(self, tokens: Sequence[int]) -> None:
        """Keep what was read as far as it is the text's, but for its last token: what follows that is asked for."""
        if self._read[: self._certain] != tokens[: self._certain]:  # it goes on from another beginning
            self._read, self._certain = [], 0
        length = min(self._certain, len(tokens) - 1)
        while length < min(len(self._read), len(tokens) - 1) and self._read[length] == tokens[length]:
            length += 1
        del self._read[length:]


def check_draft(draft: Tokenizer, tokenizer: Tokenizer, name: str) -> None:
    """Raise `TinyslmError` unless both have the same tokens."""
    if _tokens(draft) != _tokens(tokenizer):
        raise TinyslmError(
            f"{name} has another tokenizer than the model that it is to guess for.",
            "Give a smaller model with the same tokenizer, or leave the draft out: prompts are looked up anyway.",
        )


def _tokens(tokenizer: Tokenizer) -> dict[int, bytes]:
    return {token: tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)}
