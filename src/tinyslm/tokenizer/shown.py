"""Display single tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinyslm.core.printable import printable
from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """A printable token.

    text: the characters of the token (kind "text"), the name of a "special" token, or hexadecimal "bytes" if the token
    is not whole characters.
    """

    id: int
    text: str
    kind: Literal["text", "special", "bytes"]


def show_token(tokenizer: Tokenizer, token: int) -> Token:
    """The printable form of a token id; control characters are spelled out."""
    piece = tokenizer.token_bytes(token)
    if token in tokenizer.special_ids.values() or not piece:
        return Token(token, printable(piece.decode("utf-8", "replace")) or f"token {token}", "special")
    try:
        return Token(token, printable(piece.decode("utf-8")), "text")
    except UnicodeDecodeError:
        return Token(token, piece.hex(" ").upper(), "bytes")


def face(token: Token) -> str:
    """The text of a token with visible spaces, tabs and line ends."""
    if token.kind == "bytes":
        return f"⟨{token.text}⟩"
    return token.text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥") if token.kind == "text" else token.text
