"""Run in the worker process with an untrusted grammar: compile it as the engine will, and take some steps.

A step is what the engine does for each token, including the search for a way to end the text, so that grammars with
slow steps are found.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.grammar import Grammar, Matcher, unpacked
from tinyslm.tokenizer.backend import TokenTable

if TYPE_CHECKING:
    from tinyslm.tokenizer.tokenizer import Tokenizer

WALKS = 4  # texts that are begun
STEPS = 64  # tokens of each


def answer(request: Mapping[str, Any]) -> dict[str, str]:
    """Try out a grammar; returns its problem and a remedy, or nothing if there is none."""
    tokenizer = _tokenizer(int(request["vocab_size"]), tuple(sorted(request["special_ids"].items())))
    try:
        grammar = Grammar(str(request["source"]), tokenizer, str(request["what"]))
        for seed in range(WALKS):
            _walk(grammar.matcher(), random.Random(seed))
    except TinyslmError as error:
        return {"problem": error.problem, "remedy": error.remedy}
    return {}


def _walk(matcher: Matcher, chance: random.Random) -> None:
    """Follow the grammar with random tokens, for at most `STEPS` steps."""
    row = np.zeros(-(-matcher.grammar.vocab_size // 32), np.uint32)
    for left in range(STEPS, 0, -1):
        matcher.allow(row)
        allowed = np.flatnonzero(unpacked(row, matcher.grammar.vocab_size))
        if not len(allowed):
            return
        token = matcher.settle(int(chance.choice(allowed)), left)
        if not matcher.take([token]) or matcher.finished:
            return


@lru_cache(maxsize=4)
def _tokenizer(vocab_size: int, special: tuple[tuple[str, int], ...]) -> Tokenizer:
    """A tokenizer of single bytes with so many ids, of which some are special tokens."""
    return cast("Tokenizer", _Bytes(vocab_size, dict(special)))


class _Bytes:
    """The interface that grammars need of a tokenizer: special tokens as in the model's, all others single bytes."""

    def __init__(self, vocab_size: int, special_ids: dict[str, int]) -> None:
        self.vocab_size = max(vocab_size, 256 + len(special_ids) + 1)
        taken = set(special_ids.values())
        free = (token for token in range(self.vocab_size) if token not in taken)
        self._ids = [next(free) for _ in range(256)]
        self.special_ids = special_ids
        self.stop_ids = [min(taken, default=next(free, 256))]
        self.bos_id = None
        names = {token: name.encode() for name, token in special_ids.items()}
        self.table = TokenTable(
            byte_level=True, bytes_of={token: bytes([byte]) for byte, token in enumerate(self._ids)} | names
        )

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token; none for ids without one."""
        return self.table.bytes_of.get(token, b"")

    def encode(self, text: str) -> list[int]:
        """The text in single bytes."""
        return [self._ids[byte] for byte in text.encode()]

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The bytes of some tokens."""
        return b"".join(map(self.token_bytes, ids))
