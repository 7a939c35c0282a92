"""Escape control characters: text from a model or a file must not control the terminal or page that shows it."""

import re

# Control characters except tab and newline, the marks that reverse the reading direction, and lone surrogates.
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Spell out control characters except tab and newline (`\x1b`); Windows line ends become newlines."""
    return _UNSHOWABLE.sub(lambda match: repr(match.group())[1:-1], text.replace("\r\n", "\n"))


def one_line(text: str, length: int) -> str:
    """Printable `text` on one line of at most `length` characters; longer text ends with an ellipsis."""
    line = " ".join(printable(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
