"""Kinds of text: prose, code, numbers, other scripts. A rule by characters, not a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

TextKind = Literal["prose", "code", "numbers", "other scripts"]
KINDS: tuple[TextKind, ...] = ("prose", "code", "numbers", "other scripts")

LATIN_END = "\u0250"  # letters below it are Latin, with all accents of European languages
OTHER_SHARE = 0.5  # of the letters
DIGIT_SHARE = 0.25  # of the characters that are not spaces
CODE_SHARE = 0.04
CODE_SIGNS = re.compile(r"[{}\[\]<>=;_#/\\+*|&^%$@~`]")
RULE = (
    "Each paragraph has a kind: other scripts if most of its letters are not Latin; else numbers if at least 25 % of "
    "its characters (without spaces) are digits; else code if at least 4 % are operators, brackets other than "
    "parentheses, or other signs of code; else prose."
)

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a text, each with the blank lines after it; joined, they are the text."""
    start = 0
    for blank in _BLANK_LINES.finditer(text):
        yield text[start : blank.end()]
        start = blank.end()
    if start < len(text):
        yield text[start:]


def text_kind(text: str) -> TextKind:
    """The kind of a paragraph, by `RULE`."""
    written = "".join(text.split())
    letters = sum(map(str.isalpha, written))
    if not written.isascii():
        others = sum(letter >= LATIN_END for letter in written if letter.isalpha())
        if letters and others / letters > OTHER_SHARE:
            return "other scripts"
    size = max(1, len(written))
    if sum(map(str.isdigit, written)) / size >= DIGIT_SHARE:
        return "numbers"
    return "code" if len(CODE_SIGNS.findall(written)) / size >= CODE_SHARE else "prose"
