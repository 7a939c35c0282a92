"""Clean texts: line ends, control characters, wrongly decoded UTF-8. Clean text is returned unchanged."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_ASCII_CONTROL = bytes(code for code in (*range(32), 127) if chr(code) not in "\n\t")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_BETWEEN_WORDS = re.compile("(?<=\\S)\x00(?=\\S)")
_PRINTED = "[^\x00-\x1f\x7f-\x9f]*+"
_TERMINAL = re.compile(  # ECMA-48: colours and cursors, titles and links, character sets and modes
    "\x1b\\[[0-?]*+[ -/]*+[@-~]?"
    "|\x9b[0-9;?]++[A-Za-z]"
    f"|(?:\x1b[]PX^_]|[\x9d\x90\x98\x9e\x9f]){_PRINTED}(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*+[0-~]"
)
_BOLD = re.compile("([^\x08\n])(?:\x08\\1)+")  # a character printed over itself, as in manual pages
_UNDERLINED = re.compile("_\x08([^\x08\n])|([^\x08\n])\x08_")
_OTHER_CONTROL = re.compile("[\x80-\x9f]")
LONGEST = 5  # characters of the longest sequence that ftfy's heuristic matches
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    r"""Convert line ends to `\n`, remove control characters, and repair wrongly decoded UTF-8.

    Control characters between words become a space; others are removed, as are escape sequences of terminals. Only
    lines that look wrongly decoded are repaired ("â€œ" to "“"); quotes, ligatures, width, HTML entities and Unicode
    normalisation are unchanged, so source code is safe.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    controlled = _has_control(text)
    if controlled:
        text = _TERMINAL.sub("", text)
        text = _UNDERLINED.sub(r"\1\2", _BOLD.sub(r"\1", text)) if "\x08" in text else text
    if not text.isascii():
        text = _mend_encoding(text)
        controlled = _has_control(text)
    if controlled:
        text = _BETWEEN_WORDS.sub(" ", _CONTROL.sub("\x00", text)).replace("\x00", "")
    return text


def replace_surrogates(text: str) -> str:
    """Replace unpaired surrogates, which UTF-8 cannot encode, by U+FFFD, and pairs by their character."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def looks_wrongly_decoded(line: str) -> bool:
    """Whether `ftfy` detects wrong decoding. Equals its `is_bad`, which is far slower on correct text."""
    from ftfy.badness import is_bad

    near = (line[max(0, place.start() - LONGEST) : place.end() + LONGEST] for place in _suspects().finditer(line))
    return any(map(is_bad, near)) and is_bad(line)


def _has_control(text: str) -> bool:
    # Several times faster than searching the text.
    data = text.encode()
    return len(data.translate(None, _ASCII_CONTROL)) < len(data) or (
        len(data) > len(text) and _OTHER_CONTROL.search(text) is not None
    )


def _mend_encoding(text: str) -> str:
    if not _suspects().search(text):
        return text
    return "\n".join(_mend_line(line) if looks_wrongly_decoded(line) else line for line in text.split("\n"))


def _mend_line(line: str) -> str:
    import ftfy

    return str(ftfy.fix_text(line, _mending()))


@cache
def _suspects() -> re.Pattern[str]:
    """A pattern that occurs in all text that `is_bad` reports.

    It matches a character that is suspect by itself, or a character typical of wrong decoding (except letters that are
    common in Greek and Cyrillic text) next to another one that is not ASCII.
    """
    from ftfy.badness import MOJIBAKE_CATEGORIES

    alone = "\x80-\x9fŒœÃÂЂ"
    made = "".join(made for name, made in MOJIBAKE_CATEGORIES.items() if not name.endswith("_common"))
    return re.compile(f"[{alone}{made}](?:(?<=[{alone}])|(?=[^\x00-\x7f])|(?<=[^\x00-\x7f].))", re.DOTALL)


@cache
def _mending() -> Any:
    """Settings with which `ftfy` only repairs wrong decoding."""
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
