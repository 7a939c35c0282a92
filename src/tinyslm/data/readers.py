"""Readers, which extract texts from an opened source: one for each file type.

A reader has two parts. `chunks` runs in one process and only reads and cuts; `parse` runs in worker processes and
converts a chunk to texts. For another file type, register a `Reader` in `READERS`.
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
    """A part of a source: bytes to parse, or rows `(number, text)`."""

    reader: str
    source: str
    origin: int
    first: int  # number of its first line or row, or of this piece of the text
    data: bytes = b""
    rows: tuple[tuple[int, str], ...] = ()
    column: str = ""  # the column that holds the text of rows in `data`
    last: bool = True  # False: the document continues in the next chunk


@dataclass(frozen=True, slots=True)
class Reader:
    """`parse` yields `(number of the line or row, or 0, text)`."""

    chunks: Callable[[Input, DataConfig, Tally], Iterator[Chunk]]
    parse: Callable[[Chunk, DataConfig, Tally], Iterator[tuple[int, str]]]


READERS: Registry[Reader] = Registry("file type")
TEXT = "text"


def reader_for(suffix: str) -> Reader:
    """The reader registered for a file suffix, else the reader for plain text."""
    return READERS[suffix if suffix in READERS else TEXT]


def _text_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    source = opened.source
    for number, (piece, last) in enumerate(pieces_of_stream(opened.utf8(config, tally))):
        if not piece:  # empty, or not text; `utf8` has counted it
            return
        yield Chunk(TEXT, source.name, source.origin, number, piece, last=last)


def _parse_text(chunk: Chunk, _config: DataConfig, _tally: Tally) -> Iterator[tuple[int, str]]:
    yield 0, chunk.data.decode()


READERS.add(TEXT, Reader(_text_chunks, _parse_text))
