"""Kinds of tokens: words, digits, spaces, punctuation; and the share of a loss that falls on each kind."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tinyslm.inspection.inspecting import Scored
from tinyslm.tokenizer.shown import Token

TokenKind = Literal["words", "digits", "spaces", "punctuation", "bytes", "special"]
KINDS: tuple[TokenKind, ...] = ("words", "digits", "spaces", "punctuation", "bytes", "special")
"""In the order in which they are shown. punctuation: and all other signs. bytes: parts of characters."""

_SPELLED = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}")


@dataclass(frozen=True)
class KindLoss:
    """The tokens of a kind in a text: their number, their loss in bits, and its share of the text's loss."""

    kind: TokenKind
    tokens: int
    bits: float
    share: float

    @property
    def bits_per_token(self) -> float:
        """The mean loss of a token of this kind, in bits."""
        return self.bits / self.tokens


def token_kind(token: Token) -> TokenKind:
    """The kind of a token: words if it has a letter, else digits if it has a digit, else spaces if it has only those.

    A space before a word belongs to the word's token. Control characters, which `Token` spells out, are no letters.
    """
    if token.kind != "text":
        return "special" if token.kind == "special" else "bytes"
    text = _SPELLED.sub("", token.text)
    categories = {unicodedata.category(character)[0] for character in text}
    if categories & {"L", "M"}:
        return "words"
    if "N" in categories:
        return "digits"
    return "spaces" if text and not text.strip() else "punctuation"


def loss_by_kind(tokens: Iterable[Scored]) -> tuple[KindLoss, ...]:
    """The loss of each kind that occurs, in the order of `KINDS`; tokens without a probability do not count."""
    bits: dict[TokenKind, list[float]] = {}
    for one in tokens:
        if one.logprob is not None:
            bits.setdefault(token_kind(one.token), []).append(-one.logprob / math.log(2))
    total = sum(map(sum, bits.values())) or 1.0
    found = ((kind, bits[kind]) for kind in KINDS if kind in bits)
    return tuple(KindLoss(kind, len(each), sum(each), sum(each) / total) for kind, each in found)
