"""Readers: from an opened source to texts, one reader for each file type.

A reader has two halves. `chunks` runs in one process and only reads and cuts, as fast as the disk gives; `parse` runs
in worker processes and turns a chunk into texts. Register another pair in `READERS` to read another file type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tinyslm.core.registry import Registry
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Tally, pieces_of_stream
from tinyslm.data.sources import Input


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a source, as cut by its reader: bytes still to be parsed, or rows `(number, text)`."""

    reader: str
    source: str
    origin: int
    first: int  # number of its first line or row, or of this piece of the text
    data: bytes = b""
    rows: tuple[tuple[int, str], ...] = ()
    column: str = ""  # that holds the text of the rows, where they have to be parsed
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


def _text_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    source = opened.source
    for number, (piece, last) in enumerate(pieces_of_stream(opened.utf8(config, tally))):
        if not piece:  # empty, or not text: counted
            return
        yield Chunk(TEXT, source.name, source.origin, number, piece, last=last)


def _parse_text(chunk: Chunk, _config: DataConfig, _tally: Tally) -> Iterator[tuple[int, str]]:
    yield 0, chunk.data.decode()


READERS.add(TEXT, Reader(_text_chunks, _parse_text))
