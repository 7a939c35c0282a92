"""Small text files that the user names: a size limit, any Unicode encoding by its byte order mark, else UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import BinaryIO

from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import size

SMALL = 16 << 20
"""Bytes of a schema, a grammar, settings, keys, a template or a prompt; whatever is larger was named by mistake."""

_MARKS = (  # that of UTF-32 LE begins with that of UTF-16 LE
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def byte_order_mark(data: bytes) -> tuple[str, int]:
    """The encoding that a byte order mark at the start of `data` stands for, and its length; `("", 0)` without one."""
    return next(((encoding, len(mark)) for mark, encoding in _MARKS if data.startswith(mark)), ("", 0))


def decode_small(data: bytes, name: str, remedy: str) -> str:
    """Text in the encoding of its byte order mark, which is removed, or in UTF-8.

    Raises `TinyslmError`, with `name` as what was given, for bytes that are neither.
    """
    encoding, start = byte_order_mark(data)
    try:
        return data[start:].decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start + start) + 1
        raise TinyslmError(f"{name} is not {(encoding or 'utf-8').upper()} text (line {line}).", remedy) from None


def read_small_text(path: Path, option: str, limit: int = SMALL) -> str:
    """A text file of at most `limit` bytes that the user gave with `option`. Raises `TinyslmError`."""
    remedy = f"Check the path given with {option}."
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", remedy) from None
    if len(data) > limit:
        raise TinyslmError(f"{path} is larger than {size(limit)}.", remedy)
    return decode_small(data, str(path), f"{remedy} A file in another encoding: iconv -t utf-8")


def read_small_stream(stream: BinaryIO, limit: int = SMALL) -> str:
    """All text of standard input, at most `limit` bytes. Raises `TinyslmError`."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise TinyslmError(f"Standard input is larger than {size(limit)}.", "Give less text.")
    return decode_small(data, "Standard input", "Convert it first: iconv -t utf-8")
