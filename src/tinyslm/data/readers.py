"""Readers: from an opened source to texts, one reader for each file type.

A reader has two halves. `chunks` runs in one process and only reads and cuts, as fast as the disk gives; `parse` runs
in worker processes and turns a chunk into texts. Register another pair in `READERS` to read another file type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tinyslm.core.errors import TinyslmError
from tinyslm.core.registry import Registry
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import PIECE, Tally, pieces_of_stream
from tinyslm.data.sources import Input

BOM = b"\xef\xbb\xbf"
HEAD = 1 << 16  # bytes that decide whether a file is text
TEXT_COLUMNS = ("text", "content", "body", "document", "story", "article", "passage", "markdown", "code")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a source, as cut by its reader: bytes still to be parsed, or rows `(number, text)`."""

    reader: str
    source: str
    origin: int
    first: int  # number of its first line or row, or of this piece of the text
    data: bytes = b""
    rows: tuple[tuple[int, str], ...] = ()
    last: bool = True  # False: the document goes on in the next chunk


@dataclass(frozen=True, slots=True)
class Reader:
    """`parse` gives `(number of the line or row, or 0, text)`."""

    chunks: Callable[[Input, DataConfig, Tally], Iterator[Chunk]]
    parse: Callable[[Chunk, DataConfig, Tally], Iterator[tuple[int, str]]]


READERS: Registry[Reader] = Registry("file type")
TEXT = "text"


def reader_for(suffix: str) -> Reader:
    """The reader registered for a file suffix; every other file is read as plain text."""
    return READERS[suffix if suffix in READERS else TEXT]


def decode(data: bytes, place: str, tally: Tally) -> str:
    """UTF-8 to text; what is not UTF-8 becomes U+FFFD and is counted."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        tally.add("invalid_utf8", place)
        return data.decode(errors="replace")


def find_column(columns: list[str], wanted: str, place: str) -> str:
    """The column that holds the text: `wanted`, or else the first usual name. `TinyslmError` names what there is."""
    if wanted in columns:
        return wanted
    by_name = {column.lower(): column for column in reversed(columns)}
    for name in () if wanted else TEXT_COLUMNS:
        if name in by_name:
            return by_name[name]
    missing = f'no column "{wanted}"' if wanted else "no column that is known to hold text"
    raise TinyslmError(
        f"{place} has {missing}; its columns: {', '.join(columns) or 'none'}.",
        "Name the one that holds the text: --data.text_column NAME",
    )


def looks_like_text(head: bytes) -> bool:
    """Whether a file that starts with `head` is text: no zero bytes, hardly anything that is not UTF-8."""
    if b"\0" in head or head.startswith(b"%PDF-"):
        return False
    text = head.decode(errors="replace")
    strange = sum(text.count(character) for character in ("\ufffd", *map(chr, (*range(1, 9), *range(14, 27)))))
    return strange * 10 <= len(text)


def _text_chunks(opened: Input, _config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    source = opened.source
    for number, (piece, last) in enumerate(pieces_of_stream(opened.stream)):
        if number == 0 and not looks_like_text(piece[:HEAD]):
            tally.add("binary_files", source.name)
            return
        yield Chunk(TEXT, source.name, source.origin, number, piece, last=last)


def _parse_text(chunk: Chunk, _config: DataConfig, tally: Tally) -> Iterator[tuple[int, str]]:
    yield 0, decode(chunk.data.removeprefix(BOM) if chunk.first == 0 else chunk.data, chunk.source, tally)


def _line_chunks(opened: Input, _config: DataConfig, _tally: Tally) -> Iterator[Chunk]:
    """Whole lines, about `PIECE` bytes of them."""
    source, line = opened.source, 1
    parts: list[bytes] = []  # a line may be longer than a block: joined once, when its end is found
    while block := opened.stream.read(PIECE):
        end = block.rfind(b"\n") + 1
        if end:
            data = b"".join([*parts, block[:end]])
            parts = []
            yield Chunk(".jsonl", source.name, source.origin, line, data)
            line += data.count(b"\n")
        parts.append(block[end:])
    if any(parts):
        yield Chunk(".jsonl", source.name, source.origin, line, b"".join(parts))


def _parse_lines(chunk: Chunk, config: DataConfig, tally: Tally) -> Iterator[tuple[int, str]]:
    data = chunk.data.removeprefix(BOM) if chunk.first == 1 else chunk.data
    for number, line in enumerate(_lines(data), start=chunk.first):
        if not line.strip():
            continue
        place = f"{chunk.source}:{number}"
        try:
            row = json.loads(decode(line, place, tally))
        except (ValueError, RecursionError) as error:
            row = error
        if not isinstance(row, dict):
            _broken_line(place, row, config, tally)
        elif isinstance(text := _text_of_row(row, config, place, must=number == 1), str):
            yield number, text
        else:
            tally.add("rows_without_text", place)


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines of `data`, one copied at a time; a single one not at all."""
    start, end = 0, data.find(b"\n")
    while end >= 0:
        yield data[start:end]
        start, end = end + 1, data.find(b"\n", end + 1)
    yield data[start:]


def _text_of_row(row: dict[str, object], config: DataConfig, place: str, *, must: bool) -> object:
    """The row's text. A first row that has no column for it is an error, a later one only has no text."""
    column = config.text_column or "text"
    if column in row:
        return row[column]
    try:
        return row[find_column(list(row), config.text_column, place)]
    except TinyslmError:
        if must:
            raise
        return None


def _broken_line(place: str, found: object, config: DataConfig, tally: Tally) -> None:
    tally.add("broken_lines", place)
    if config.strict:
        reason = f"not valid JSON ({found})" if isinstance(found, Exception) else "not a JSON object"
        raise TinyslmError(
            f"{place} is {reason}.", "Mend or remove that line, or run without strict to skip and count such lines."
        )


READERS.add(TEXT, Reader(_text_chunks, _parse_text))
for _suffix in (".jsonl", ".ndjson"):
    READERS.add(_suffix, Reader(_line_chunks, _parse_lines))
