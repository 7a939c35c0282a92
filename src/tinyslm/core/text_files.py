"""Read small text files and standard input, up to a size limit, in UTF-8 or the encoding of the byte order mark."""

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
"""Default size limit in bytes for schemas, grammars, settings, keys, templates and prompts."""

CONVERT = "Convert it first: iconv -f ENCODING -t utf-8"
_BLOCK = 1 << 16  # bytes read at a time

_MARKS = (  # UTF-32 LE before UTF-16 LE, whose mark is a prefix of its mark
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def byte_order_mark(data: bytes) -> tuple[str, int]:
    """The encoding of the byte order mark at the start of `data`, and the mark's length; `("", 0)` without a mark."""
    return next(((encoding, len(mark)) for mark, encoding in _MARKS if data.startswith(mark)), ("", 0))


def decode_small(data: bytes, name: str, remedy: str) -> str:
    """Decode text by its byte order mark, which is removed, or as UTF-8.

    Raises `TinyslmError`, in which `name` stands for the text, for undecodable bytes.
    """
    encoding, start = byte_order_mark(data)
    try:
        return data[start:].decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start + start) + 1
        raise TinyslmError(f"{name} is not {(encoding or 'utf-8').upper()} text (line {line}).", remedy) from None


def read_small_text(path: Path, option: str, limit: int = SMALL) -> str:
    """Read a text file of at most `limit` bytes that the user gave with `option`. Raises `TinyslmError`."""
    remedy = f"Check the path given with {option}."
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", remedy) from None
    if len(data) > limit:
        raise TinyslmError(f"{path} is larger than {size(limit)}.", remedy)
    return decode_small(data, str(path), f"{remedy} To convert a file: iconv -f ENCODING -t utf-8")


def read_small_stream(stream: BinaryIO, limit: int = SMALL) -> str:
    """Read all of standard input, at most `limit` bytes. Raises `TinyslmError`."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise TinyslmError(f"Standard input is larger than {size(limit)}.", "Give less text.")
    return decode_small(data, "Standard input", CONVERT)


def lines_as_they_come(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of standard input, each as soon as it is complete. Raises `TinyslmError`."""
    for number, line in enumerate(without_mark(stream, "Standard input"), start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise TinyslmError(f"Standard input is not UTF-8 text (line {number}).", CONVERT) from None


def without_mark(stream: BinaryIO, name: str) -> BinaryIO:
    """Remove a byte order mark and convert UTF-16 and UTF-32 to UTF-8, without reading ahead.

    Without a mark, bytes are unchanged. Reading raises `TinyslmError` if UTF-16 or UTF-32 cannot be decoded.
    """
    return io.BufferedReader(ByteStream(_unmarked(stream, name)))


def _unmarked(stream: BinaryIO, name: str) -> Iterator[bytes]:
    head = stream.readline(4)  # the length of the longest mark; does not wait for more than one typed line
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
    """A stream of the bytes that an iterator yields; empty parts are skipped."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: WriteableBuffer) -> int:
        """Read at least one byte into `target`; returns 0 at the end."""
        if not self._ready:
            self._ready = memoryview(next(filter(None, self._parts), b""))
        view = memoryview(target)
        part, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(part)] = part
        return len(part)
