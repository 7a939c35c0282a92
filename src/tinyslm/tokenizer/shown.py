"""Tokens as they can be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinyslm.core.printable import printable
from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """A token as it can be shown.

    text: the characters it stands for (kind "text"), the name of a "special" token, or the bytes of one that is no
    whole characters, in hexadecimal ("bytes").
    """

    id: int
    text: str
    kind: Literal["text", "special", "bytes"]


def show_token(tokenizer: Tokenizer, token: int) -> Token:
    """A token as it can be shown: control characters and parts of characters are spelled out."""
    piece = tokenizer.token_bytes(token)
    if token in tokenizer.special_ids.values() or not piece:
        return Token(token, printable(piece.decode("utf-8", "replace")) or f"token {token}", "special")
    try:
        return Token(token, printable(piece.decode("utf-8")), "text")
    except UnicodeDecodeError:
        return Token(token, piece.hex(" ").upper(), "bytes")


def face(token: Token) -> str:
    """A token as it is drawn, with visible spaces and line ends."""
    if token.kind == "bytes":
        return f"⟨{token.text}⟩"
    return token.text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥") if token.kind == "text" else token.text
