"""Cleaning a text without touching what is sound: clean text comes back as the same string, byte for byte."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# Colour codes of terminals, and control characters other than newline and tab.
_CONTROL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]+")


def clean(text: str) -> str:
    r"""`text` with `\n` as line ends, without control characters, with wrongly decoded UTF-8 mended.

    Only lines that look wrongly decoded are mended ("â€œ" to "“"); quotes, ligatures, width, HTML entities and Unicode
    normalisation stay as they are, so source code is safe.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        text = _mend_encoding(text)
    return _CONTROL.sub("", text) if _CONTROL.search(text) else text


def replace_surrogates(text: str) -> str:
    """`text` with halves of surrogate pairs, which UTF-8 cannot hold, as U+FFFD (whole pairs as their character)."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _mend_encoding(text: str) -> str:
    from ftfy.badness import is_bad

    if not is_bad(text):
        return text
    return "\n".join(_mend_line(line) if is_bad(line) else line for line in text.split("\n"))


def _mend_line(line: str) -> str:
    import ftfy

    return str(ftfy.fix_text(line, _mending()))


@cache
def _mending() -> Any:
    """What `ftfy` may do: undo wrong decoding, and nothing else."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
