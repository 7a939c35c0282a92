"""Capitals as small letters behind a mark, so that "The" and "the" share a token.

    "The HTTP server"  ->  MARK "the" CAPS " http server"

`MARK` stands before a capital letter, `CAPS` before a run of 2 to `LONGEST` capitals that ends a word; before the space
in front of it, if there is one. These control characters are escaped where a text has them. Only A to Z change. Both
directions are steps of the `tokenizers` library, so that a `tokenizer.json` says it all.
"""

from __future__ import annotations

import json
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tokenizers

MARK, CAPS, ESCAPE = "\x0e", "\x0f", "\x10"  # "shift out", "shift in", "data link escape"
ESCAPED = {ESCAPE: ESCAPE + "e", MARK: ESCAPE + "m", CAPS: ESCAPE + "c"}
LONGEST = 32  # capitals; bounds the time for a text of capitals
MARKS = f"[{MARK}{CAPS}]"


def normalizer() -> tokenizers.normalizers.Normalizer:
    """Write capitals with marks."""
    from tokenizers import Regex
    from tokenizers.normalizers import Replace, Sequence

    first = f"(?<!{MARK}[a-z]){MARK}(?=[a-z](?:{MARK}[a-z]){{1,{LONGEST - 1}}}(?![a-z{MARK}]))"
    others = f"(?<={CAPS}[a-z](?:{MARK}[a-z]){{0,{LONGEST - 2}}}){MARK}"
    return Sequence(
        [
            *(Replace(character, escaped) for character, escaped in ESCAPED.items()),
            *(Replace(letter, MARK + letter.lower()) for letter in ascii_uppercase),
            Replace(Regex(first), CAPS),
            Replace(Regex(others), ""),
            *(Replace(f" {mark}", f"{mark} ") for mark in (MARK, CAPS)),
        ]
    )


def decoder_steps() -> list[tokenizers.decoders.Decoder]:
    """Write marked letters as capitals again, in a text that is already whole. Marks without a letter are dropped."""
    from tokenizers import Regex
    from tokenizers.decoders import Replace

    return [
        *(Replace(f"{mark} ", f" {mark}") for mark in (MARK, CAPS)),
        Replace(Regex(f"(?<={CAPS}[a-z]{{0,{LONGEST - 1}}})(?=[a-z])"), MARK),
        Replace(CAPS, ""),
        *(Replace(MARK + letter.lower(), letter) for letter in ascii_uppercase),
        Replace(MARK, ""),
        *(Replace(escaped, character) for character, escaped in reversed(ESCAPED.items())),
    ]


def marks(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Make `backend`, which has a decoder and splits its text, mark capitals; each mark is a word. Returns it."""
    from tokenizers import Regex, decoders, pre_tokenizers

    backend.normalizer = normalizer()
    alone = pre_tokenizers.Split(Regex(MARKS), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([alone, backend.pre_tokenizer])
    if backend.decoder is not None:
        backend.decoder = decoders.Sequence([backend.decoder, *decoder_steps()])
    return backend


def unmarked(normalization: Any, decoder: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The steps of a decoder before `decoder_steps`; None unless these and `normalizer` are in the `tokenizer.json`."""
    if not normalization or normalization.get("type") != "Sequence":
        return None
    steps = [json.loads(step.__getstate__()) for step in decoder_steps()]
    same = normalization == json.loads(normalizer().__getstate__()) and decoder[-len(steps) :] == steps
    return decoder[: -len(steps)] if same else None


class CaseDecoder:
    """`decoder_steps` for one text, of which some bytes arrive at a time."""

    def __init__(self) -> None:
        self._mark = 0  # the mark whose letter is awaited
        self._spaced = False  # a space has come between them
        self._capitals = 0  # how many more letters of a run are capitals
        self._escaped = False

    def push(self, piece: bytes) -> bytes:
        """What the bytes add to the text."""
        return b"".join(map(self._next, piece))

    def flush(self) -> bytes:
        """What is left at the end."""
        return ESCAPE.encode() if self._escaped else b""

    def _next(self, byte: int) -> bytes:
        if self._escaped:
            return self._unescaped(byte)
        if byte in _MARKS:
            self._mark, self._spaced, self._capitals = byte, False, 0
            return b""
        if byte == _SPACE and self._mark and not self._spaced:
            self._spaced = True
            return b" "
        mark, self._mark = self._mark, 0
        if not _FIRST <= byte <= _LAST:
            self._capitals = 0
            self._escaped = byte == _ESCAPE
            return b"" if self._escaped else bytes([byte])
        if mark:
            self._capitals = LONGEST if mark == _MARKS[1] else 1
        capital, self._capitals = self._capitals > 0, max(0, self._capitals - 1)
        return bytes([byte - 32 if capital else byte])

    def _unescaped(self, byte: int) -> bytes:
        self._escaped = False
        character = _UNESCAPED.get(byte)
        return character if character else ESCAPE.encode() + self._next(byte)


_MARKS = (ord(MARK), ord(CAPS))
_ESCAPE, _SPACE, _FIRST, _LAST = map(ord, (ESCAPE, " ", "a", "z"))
_UNESCAPED = {ord(escaped[1]): character.encode() for character, escaped in ESCAPED.items()}
