"""The program of the process that tests untrusted grammars: compile one as the engine does, and take some steps.

A step is the work of the engine for one token, including the search for a way to end the text, which finds grammars
with slow steps.
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

WALKS = 4  # random texts
STEPS = 64  # tokens of each


def answer(request: Mapping[str, Any]) -> dict[str, str]:
    """Test a grammar; returns its problem and a remedy, or nothing if there is none."""
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
    for remaining in range(STEPS, 0, -1):
        matcher.allow(row)
        allowed = np.flatnonzero(unpacked(row, matcher.grammar.vocab_size))
        if not len(allowed):
            return
        token = matcher.settle(int(chance.choice(allowed)), remaining)
        if not matcher.take([token]) or matcher.finished:
            return


@lru_cache(maxsize=4)
def _tokenizer(vocab_size: int, special: tuple[tuple[str, int], ...]) -> Tokenizer:
    """A tokenizer of single bytes with this number of ids, some of them special tokens."""
    return cast("Tokenizer", _Bytes(vocab_size, dict(special)))


class _Bytes:
    """The interface of a tokenizer that grammars use: the model's special tokens, and single bytes otherwise."""

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
