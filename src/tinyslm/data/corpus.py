"""Pass one over the text: read, clean, hash and spool it to the disk in worker processes.

Memory holds only a few numbers for each piece; texts and signatures are in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from tinyslm.data.config import DataConfig
from tinyslm.data.documents import PIECE, Progress, Tally
from tinyslm.data.readers import Chunk
from tinyslm.data.reading import parse_chunk, read_chunks
from tinyslm.data.similarity import SLOTS, signatures
from tinyslm.data.sources import Source
from tinyslm.data.workers import Mapper

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

TASK = 2 * PIECE  # bytes per task of a worker
SIGNATURES = "signatures"


@dataclass(frozen=True, slots=True)
class Pieces:
    """The table of pieces in reading order, one array per column. A document is a run of pieces that ends at `last`."""

    bytes: Ints
    hashes: Hashes
    origins: Ints  # index of the path that each comes from
    last: Flags

    @property
    def documents(self) -> Ints:
        """The document number of each piece."""
        ends = np.cumsum(self.last)
        return (ends - self.last).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Corpus:
    """All text that was read, spooled in `folder`: file `i` there holds the pieces `bounds[i]:bounds[i + 1]`.

    Documents are numbered in reading order. If near duplicates are searched, the file `signatures` holds uint16
    `[documents, SLOTS]`.
    """

    folder: Path
    bounds: Ints
    pieces: Pieces
    document_bytes: Ints
    document_hashes: Hashes
    document_origins: Ints

    def parts(self) -> Iterator[tuple[Path, int, slice]]:
        """All text in parts of about `TASK` bytes: (spool file, byte offset in it, slice of pieces)."""
        for number, (first, end) in enumerate(pairwise(self.bounds.tolist())):
            lengths = self.pieces.bytes[first:end]
            starts = np.cumsum(lengths) - lengths
            cuts = np.flatnonzero(np.diff(starts // TASK, prepend=-1))
            for start, stop in pairwise([*cuts.tolist(), end - first]):
                yield self.folder / str(number), int(starts[start]), slice(first + start, first + stop)

    def texts(self, piece_flags: Flags) -> Iterator[str]:
        """The texts of the flagged pieces."""
        for file, offset, part in self.parts():
            if piece_flags[part].any():
                yield from spooled(file, offset, self.pieces.bytes[part], piece_flags[part])


def spooled(path: Path, offset: int, lengths: Ints, flags: Flags) -> Iterator[str]:
    """Read the flagged texts from a spool file. lengths: bytes of the consecutive texts from `offset` on."""
    with path.open("rb") as file:
        file.seek(offset)
        for length, wanted in zip(lengths.tolist(), flags.tolist(), strict=True):
            data = file.read(length)
            if wanted:
                yield data.decode()


def read_corpus(
    sources: Sequence[Source],
    config: DataConfig,
    folder: Path,
    tallies: Sequence[Tally],
    workers: Mapper,
    progress: Progress,
) -> Corpus:
    """Read all sources into `folder`, which must exist and be empty. tallies: count incidents, one for each path.

    Raises `TinyslmError` as `read_chunks` does.
    """
    tasks = (
        _Task(number, chunks, folder, config)
        for number, chunks in enumerate(_grouped(read_chunks(sources, config, tallies, progress)))
    )
    tables: list[Pieces] = []
    with (folder / SIGNATURES).open("wb") as file:
        rows = _DocumentRows()
        for table, table_rows, task_tallies in workers.map(_read, tasks):
            for origin, tally in task_tallies.items():
                tallies[origin].merge(tally)
            tables.append(table)
            if config.compares_nearly:
                file.write(rows.complete(table_rows, table.last).tobytes())
    return _corpus(folder, tables)


@dataclass(frozen=True, slots=True)
class _Task:
    number: int
    chunks: list[Chunk]
    folder: Path
    config: DataConfig


def _grouped(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    """Groups of chunks of about `TASK` bytes, at most 1,000 chunks each."""
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        group.append(chunk)
        size += len(chunk.data) + sum(len(text) for _, text in chunk.rows)
        if size >= TASK or len(group) >= 1000:
            yield group
            group, size = [], 0
    if group:
        yield group


def _read(task: _Task) -> tuple[Pieces, NDArray[np.uint32], dict[int, Tally]]:
    """Parse, clean, hash and spool a group of chunks. Returns the table, signatures `[pieces, SLOTS]`, and tallies.

    A chunk may be a single text of any length, so its pieces are not in memory together.
    """
    rows: list[tuple[int, int, int, bool]] = []
    tallies: dict[int, Tally] = {}
    path = task.folder / str(task.number)
    with path.open("wb") as file:
        for chunk in task.chunks:
            for document in parse_chunk(chunk, task.config, tallies.setdefault(chunk.origin, Tally())):
                data = document.text.encode()
                file.write(data)
                rows.append((len(data), xxhash.xxh3_64_intdigest(data), chunk.origin, document.last))
    lengths, hashes, origins, last = zip(*rows, strict=True) if rows else ((), (), (), ())
    kinds = (np.int64, np.uint64, np.int64, np.bool_)
    table = Pieces(*(np.array(*column) for column in zip((lengths, hashes, origins, last), kinds, strict=True)))
    signed = [signatures(texts) for texts in _spooled_batches(path, lengths)] if task.config.compares_nearly else []
    return table, np.concatenate([np.zeros((0, SLOTS), np.uint32), *signed]), tallies


def _spooled_batches(path: Path, lengths: Sequence[int]) -> Iterator[list[bytes]]:
    """Read the texts of a spool file again, about `PIECE` bytes at a time."""
    batch: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for length in lengths:
            batch.append(file.read(length))
            size += length
            if size >= PIECE:
                yield batch
                batch, size = [], 0
    yield batch


class _DocumentRows:
    """Computes the signatures of documents from those of their pieces, which may be in several tables."""

    def __init__(self) -> None:
        self._open = np.zeros((0, SLOTS), np.uint32)  # of the unfinished document, if there is one

    def complete(self, rows: NDArray[np.uint32], last: Flags) -> NDArray[np.uint16]:
        """The signatures `[documents, SLOTS]` of the documents that end here, reduced to 16 bits, enough to compare."""
        last = np.concatenate([np.zeros(len(self._open), bool), last])
        rows = np.concatenate([self._open, rows])
        if not len(rows):
            return rows.astype(np.uint16)
        starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
        merged = np.minimum.reduceat(rows, starts) if len(starts) < len(rows) else rows
        ended = len(merged) if last[-1] else len(merged) - 1
        self._open = merged[ended:]
        return (merged[:ended] & 0xFFFF).astype(np.uint16)


def _corpus(folder: Path, tables: list[Pieces]) -> Corpus:
    bounds = np.cumsum([0, *(len(table.bytes) for table in tables)])
    if not tables:
        tables = [Pieces(*(np.zeros(0, kind) for kind in (np.int64, np.uint64, np.int64, bool)))]
    pieces = Pieces(
        np.concatenate([table.bytes for table in tables]),
        np.concatenate([table.hashes for table in tables]),
        np.concatenate([table.origins for table in tables]),
        np.concatenate([table.last for table in tables]),
    )
    ends = np.flatnonzero(pieces.last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    hashes = pieces.hashes[starts]
    for document in np.flatnonzero(ends > starts):  # of several pieces: there are few, because they are long
        hashes[document] = xxhash.xxh3_64_intdigest(pieces.hashes[starts[document] : ends[document] + 1].tobytes())
    sizes = np.add.reduceat(pieces.bytes, starts) if len(starts) else pieces.bytes
    return Corpus(folder, bounds, pieces, sizes, hashes, pieces.origins[starts])
