"""Pass one over the text: read, clean and describe it in worker processes, and spool it to the disk.

What stays in memory is a table with a few numbers for each piece; texts and signatures lie in files.
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
from tinyslm.data.workers import Workers

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

TASK = 2 * PIECE  # bytes that one call of a worker reads
SIGNATURES = "signatures"


@dataclass(frozen=True, slots=True)
class Pieces:
    """Columns of the table of pieces, in reading order. A document is a run of pieces that ends at `last`."""

    bytes: Ints
    hashes: Hashes
    origins: Ints  # which of the given paths each comes from
    last: Flags

    @property
    def documents(self) -> Ints:
        """The number of each piece's document."""
        ends = np.cumsum(self.last)
        return (ends - self.last).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Corpus:
    """All text that was read, spooled in `folder`: file `i` there holds the pieces `bounds[i]:bounds[i + 1]`.

    Documents are numbered in reading order. `signatures` has a row of `SLOTS` uint16 for each, where asked for.
    """

    folder: Path
    bounds: Ints
    pieces: Pieces
    document_bytes: Ints
    document_hashes: Hashes
    document_origins: Ints

    def parts(self) -> Iterator[tuple[Path, int, slice]]:
        """All text in parts of about `TASK` bytes: the spool file, where in it the part starts, and its pieces."""
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
    """The flagged texts of those that follow each other in a spool file from `offset` on, each of a known length."""
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
    workers: Workers,
    progress: Progress,
) -> Corpus:
    """Read all sources into `folder`, which must exist and be empty. Incidents are added to the tally of their path."""
    tasks = (
        _Task(number, chunks, folder, config)
        for number, chunks in enumerate(_grouped(read_chunks(sources, config, tallies, progress)))
    )
    tables: list[Pieces] = []
    with (folder / SIGNATURES).open("wb") as file:
        rows = _DocumentRows()
        for table, table_rows, found in workers.map(_read, tasks):
            for origin, tally in found.items():
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
    """Chunks in groups of about `TASK` bytes, or of a thousand."""
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
    """Parse, clean, hash and spool a group of chunks: its table, its pieces' signatures, and its incidents.

    A chunk may be a single text of any length, so its pieces are not kept in memory together.
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
    """The texts of a spool file again, about `PIECE` bytes at a time."""
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
    """Signatures of documents from those of their pieces, which may be spread over several tables."""

    def __init__(self) -> None:
        self._open = np.zeros((0, SLOTS), np.uint32)  # of the document that has not ended yet, if there is one

    def complete(self, rows: NDArray[np.uint32], last: Flags) -> NDArray[np.uint16]:
        """The rows of all documents that end here, shortened to 16 bits, which is enough to compare them."""
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
    for document in np.flatnonzero(ends > starts):  # of several pieces: few, as each is long
        hashes[document] = xxhash.xxh3_64_intdigest(pieces.hashes[starts[document] : ends[document] + 1].tobytes())
    sizes = np.add.reduceat(pieces.bytes, starts) if len(starts) else pieces.bytes
    return Corpus(folder, bounds, pieces, sizes, hashes, pieces.origins[starts])
