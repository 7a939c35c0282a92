"""Guessing the encoding of text that is not Unicode."""

from __future__ import annotations

NAMES = {
    "cp1252": "windows-1252",
    "cp1250": "windows-1250",
    "cp1251": "windows-1251",
    "cp1253": "windows-1253",
    "cp1254": "windows-1254",
    "cp1255": "windows-1255",
    "cp1256": "windows-1256",
    "cp1257": "windows-1257",
    "koi8_r": "koi8-r",
    "koi8_u": "koi8-u",
    "cp866": "ibm866",
    "cp932": "shift_jis",
    "euc_jp": "euc-jp",
    "gb18030": "gb18030",
    "big5hkscs": "big5",
    "cp949": "euc-kr",
}
"""The encodings that are guessed, by Python's name for them: their usual names."""


def guess_encoding(data: bytes) -> str:
    """Python's name of the encoding that text which is not UTF-8 is most likely in; "" if it makes sense in none."""
    from charset_normalizer import from_bytes

    found = from_bytes(data, cp_isolation=list(NAMES))
    best = found.best()
    return best.encoding if best else ""
