"""Small text files that the user names: a size limit, any Unicode encoding by its byte order mark, else UTF-8."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import size

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SMALL = 16 << 20
"""Bytes of a schema, a grammar, settings, keys, a template or a prompt; whatever is larger was named by mistake."""

CONVERT = "Convert it first: iconv -t utf-8"
_BLOCK = 1 << 16  # bytes read at a time

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
    return decode_small(data, "Standard input", CONVERT)


def lines_as_they_come(stream: BinaryIO) -> Iterator[str]:
    """The lines of standard input, each as soon as it is complete. Raises `TinyslmError`."""
    for number, line in enumerate(without_mark(stream, "Standard input"), start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise TinyslmError(f"Standard input is not UTF-8 text (line {number}).", CONVERT) from None


def without_mark(stream: BinaryIO, name: str) -> BinaryIO:
    """`stream` without a byte order mark, and as UTF-8 where that says UTF-16 or UTF-32; as it arrives, at any length.

    Bytes without a mark are passed on as they are. Reading raises `TinyslmError` for a damaged UTF-16 or UTF-32.
    """
    return io.BufferedReader(ByteStream(_unmarked(stream, name)))


def _unmarked(stream: BinaryIO, name: str) -> Iterator[bytes]:
    head = stream.readline(4)  # the longest mark, and not more than has been typed
    encoding, start = byte_order_mark(head)
    blocks = chain([head[start:]], iter(lambda: stream.read1(_BLOCK), b""))  # type: ignore[attr-defined]
    if encoding in ("", "utf-8"):
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in blocks:
            yield decoder.decode(block).encode()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise TinyslmError(f"{name} is damaged: it is not whole {encoding.upper()} text.", CONVERT) from None


class ByteStream(io.RawIOBase):
    """The bytes that an iterator gives, as a stream to be read once; empty ones are passed over."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, target: WriteableBuffer) -> int:
        """Fill `target` with at least one byte; 0 at the end."""
        if not self._ready:
            self._ready = memoryview(next(filter(None, self._parts), b""))
        view = memoryview(target)
        part, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(part)] = part
        return len(part)
