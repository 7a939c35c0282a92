"""Escape control characters: text from a model or a file must not control the terminal or page that shows it."""

import re
from unicodedata import combining, east_asian_width

TAB = 8

# Control characters except tab and newline, the marks that reverse the reading direction, and lone surrogates.
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Spell out control characters except tab and newline (`\x1b`); Windows line ends become newlines."""
    return _UNSHOWABLE.sub(lambda match: repr(match.group())[1:-1], text.replace("\r\n", "\n"))


def one_line(text: str, length: int) -> str:
    """Printable `text` on one line of at most `length` characters; longer text ends with an ellipsis."""
    line = " ".join(printable(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def columns(text: str) -> int:
    """How wide a text is on a terminal, about."""
    return sum(
        TAB if character == "\t" else 0 if combining(character) else 1 + (east_asian_width(character) in "WF")
        for character in text
    )


def folded(text: str, width: int) -> str:
    """The text, with each line that is wider than `width` columns filled up with spaces before the words at its breaks.

    A terminal of that width then breaks the line between words. It has no more line ends than before, so that a
    command that is copied from there still is one.
    """
    return "\n".join(line if columns(line) <= width else _folded(line, width) for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    shown, used = "", 0
    for word in re.findall(r"\s*\S+", line):
        if used and used + columns(word) >= width > columns(word.lstrip()):
            shown, used, word = shown + " " * (width - used), 0, word.lstrip()  # noqa: PLW2901
        shown += word
        used = (used + columns(word)) % width
    return shown
