"""Shards: packed tokens on the disk, memory-mapped.

A shards folder holds, for each split (`train`, `valid`):

    train-00000.bin            tokens, little endian, uint16 if the vocabulary fits, else uint32; up to 64 M per file
    train-00000.documents.npy  int64 [documents, 2]: token offset in the split after the document's end token, and
                               its length in bytes of UTF-8; for the documents that end in that file

and `tokenizer/`, and `manifest.json` with the counts, the sources of the text, and a hash of every file. Shards in
object storage are read from a cache folder, into which their files are copied at the first use: see `shard_cache.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, read_manifest
from tinyslm.core.json_files import read_json
from tinyslm.data.object_storage import is_remote
from tinyslm.data.shard_cache import KIND, CachedArray, ShardCache, cached_shards, origin_of
from tinyslm.tokenizer.tokenizer import Tokenizer

VERSION = 1
SHARD_TOKENS = 1 << 26
TABLE_HEADER, ROW_BYTES = 128, 16  # of the files that NumPy writes for tables of documents
SPLITS = ("train", "valid")
Tokens = NDArray[np.uint16] | NDArray[np.uint32]


_MAKE = "Make shards from the text with: tinyslm data prepare PATHS --out FOLDER"


@dataclass(frozen=True)
class _Counts:
    """The counts of a split in the manifest."""

    tokens: NonNegativeInt
    documents: NonNegativeInt
    utf8_bytes: NonNegativeInt
    shards: NonNegativeInt


@dataclass(frozen=True)
class _Splits:
    train: _Counts
    valid: _Counts


@dataclass(frozen=True)
class _Index:
    """The part of the manifest that is needed to read the files."""

    dtype: Literal["uint16", "uint32"]
    splits: _Splits
    tokenizer: dict[str, Any]


class Shards:
    """An opened shards folder. Attributes: `folder`, `manifest`, `tokenizer`; `cache` of shards in object storage."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], cache: ShardCache | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.cache = cache
        self._splits = {name: TokenSplit(folder, name, manifest, cache) for name in SPLITS}

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> Shards:
        """Open a folder that `prepare` wrote, or a cache folder; `verify` compares every file in it with its hash.

        Raises `TinyslmError` for another kind of folder, another format version, or a damaged file.
        """
        folder = Path(folder)
        if not is_shards(folder):
            raise TinyslmError(f"{folder} is not a shards folder.", _MAKE)
        cached = bool(origin_of(folder))
        manifest = read_manifest(folder, verify=verify and not cached)
        if manifest.get("version") != VERSION:
            raise TinyslmError(
                f"{folder} has shards of format version {manifest.get('version')}; this program reads {VERSION}.",
                _MAKE,
            )
        read_json(folder / MANIFEST, _Index, remedy=_MAKE)
        cache = ShardCache(folder, manifest) if cached else None
        if cache and verify:
            cache.check()
        return cls(folder, manifest, cache)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens."""
        return Tokenizer.load(self.folder / "tokenizer")

    def split(self, name: str) -> TokenSplit:
        """The split "train" or "valid"."""
        return self._splits[name]


def is_shards(folder: Path) -> bool:
    """Whether a folder holds shards, intact or not."""
    if not folder.is_dir():
        return False
    try:
        return read_json(folder / MANIFEST).get("kind") == KIND
    except TinyslmError:
        return any(folder.glob("train-?????.bin"))  # a damaged shards folder: `open` reports the damage


def given_shards(paths: Sequence[str | Path]) -> Path | None:
    """The shards folder that is the only one of the user's paths, else None; of shards in object storage, their cache.

    Raises `TinyslmError` if object storage cannot be read.
    """
    if len(paths) != 1:
        return None
    if is_remote(str(paths[0])):
        return cached_shards(str(paths[0]))
    return Path(paths[0]) if is_shards(Path(paths[0])) else None


class TokenSplit:
    """The tokens of one split as one sequence: documents, each followed by the end token.

    Attributes: `name`; `tokens`, `documents` (counts); `utf8_bytes` (of the text, without end tokens).
    """

    def __init__(self, folder: Path, name: str, manifest: Mapping[str, Any], cache: ShardCache | None = None) -> None:
        counts, dtype = manifest["splits"][name], manifest["dtype"]
        self.name = name
        self.tokens: int = counts["tokens"]
        self.documents: int = counts["documents"]
        self.utf8_bytes: int = counts["utf8_bytes"]
        stems = [folder / f"{name}-{number:05d}" for number in range(counts["shards"])]
        self._parts: Sequence[Tokens | CachedArray]
        self._tables: Sequence[NDArray[np.int64] | CachedArray]
        if cache:
            self._parts = [_cached_tokens(cache, stem.with_suffix(".bin").name, dtype) for stem in stems]
            self._tables = [_cached_table(cache, stem.with_suffix(".documents.npy").name) for stem in stems]
        else:
            self._parts = [_mapped(stem.with_suffix(".bin"), dtype) for stem in stems]
            self._tables = [_table(stem.with_suffix(".documents.npy")) for stem in stems]
        self._ends = np.cumsum([0, *(len(part) for part in self._parts)])  # token offsets of the files
        self._table_ends = np.cumsum([0, *(len(table) for table in self._tables)])
        if self._ends[-1] != self.tokens or self._table_ends[-1] != self.documents:
            raise TinyslmError(
                f"The {name} shards in {folder} are damaged: they hold {self._ends[-1]} tokens of "
                f"{self._table_ends[-1]} documents instead of {self.tokens} of {self.documents}.",
                f"Restore them from a copy, or delete {folder} and make it again.",
            )

    def slice(self, start: int, length: int) -> Tokens:
        """Read tokens `[length]` from `start` on, in the stored type; fewer at the end of the split."""
        stop = min(start + length, self.tokens)
        first = int(np.searchsorted(self._ends, start, side="right")) - 1
        if stop <= start or stop <= self._ends[first + 1]:
            part = self._parts[min(first, len(self._parts) - 1)]
            found: Tokens = part[start - self._ends[first] : max(stop, start) - self._ends[first]]
            return found
        rest = self.slice(int(self._ends[first + 1]), stop - int(self._ends[first + 1]))
        return np.concatenate([self._parts[first][start - self._ends[first] :], rest])

    def document(self, number: int) -> Tokens:
        """The tokens of one document (0 is the first), with its end token."""
        start = self._document(number - 1)[0] if number else 0
        return self.slice(start, self._document(number)[0] - start)

    def document_bytes(self, number: int) -> int:
        """The length of one document in bytes of UTF-8."""
        return self._document(number)[1]

    def _document(self, number: int) -> tuple[int, int]:
        if not 0 <= number < self.documents:
            raise IndexError(f"document {number} of {self.documents}")
        table = int(np.searchsorted(self._table_ends, number, side="right")) - 1
        end, size = self._tables[table][number - self._table_ends[table]].tolist()
        return end, size


def _cached_tokens(cache: ShardCache, name: str, dtype: str) -> CachedArray:
    return CachedArray(cache, name, cache.bytes_of(name) // np.dtype(dtype).itemsize, partial(_mapped, dtype=dtype))


def _cached_table(cache: ShardCache, name: str) -> CachedArray:
    return CachedArray(cache, name, (cache.bytes_of(name) - TABLE_HEADER) // ROW_BYTES, _table)


def _mapped(file: Path, dtype: str) -> Tokens:
    with _reporting_damage(file):
        mapped: Tokens = np.memmap(file, np.dtype(dtype).newbyteorder("<"), "r")
    return mapped


def _table(file: Path) -> NDArray[np.int64]:
    with _reporting_damage(file):
        table: NDArray[np.int64] = np.load(file, mmap_mode="r")
        if table.dtype != np.int64 or table.ndim != 2 or table.shape[1] != 2:
            raise ValueError("it holds no table of documents")
    return table


@contextmanager
def _reporting_damage(file: Path) -> Iterator[None]:
    """Convert an error while reading `file` to a `TinyslmError`."""
    try:
        yield
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TinyslmError(f"{file} is damaged: {reason}.", _MAKE) from None


class SplitWriter:
    """Writes the files of one split, some pieces of documents at a time."""

    def __init__(self, folder: Path, name: str, dtype: str) -> None:
        self._folder = folder
        self._name = name
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._table: list[NDArray[np.int64]] = []  # of the documents that end in the current file
        self._open_bytes = 0  # of the unfinished document
        self._room = 0
        self.tokens = self.documents = self.utf8_bytes = self.shards = 0

    def add(self, tokens: Tokens, counts: NDArray[np.int64], sizes: NDArray[np.int64], last: NDArray[np.bool_]) -> None:
        """Append the tokens of some pieces.

        counts, sizes, last: `[pieces]`, the number of tokens and bytes of each, and whether its document ends.
        """
        ends = self.tokens + np.cumsum(counts)[last]
        up_to = np.concatenate([[0], self._open_bytes + np.cumsum(sizes)[last]])
        self._open_bytes += int(sizes.sum()) - int(up_to[-1])
        rows = np.stack([ends, np.diff(up_to)], axis=1)
        self.utf8_bytes += int(sizes.sum())
        self.documents += len(rows)
        while len(tokens):
            if not self._room:
                self._close_table()
                self.shards += 1
                self._room = SHARD_TOKENS
            part, tokens = tokens[: self._room], tokens[self._room :]
            with self._stem(".bin").open("ab") as file:
                file.write(part.astype(self._dtype, copy=False).tobytes())
            self.tokens += len(part)
            self._room -= len(part)
            ended = int(np.searchsorted(rows[:, 0], self.tokens, side="right"))
            self._table.append(rows[:ended])
            rows = rows[ended:]

    def finish(self) -> dict[str, int]:
        """Close the last file. Returns the counts for the manifest."""
        self._close_table()
        names = ("tokens", "utf8_bytes", "documents", "shards")
        return {name: getattr(self, name) for name in names}

    def _stem(self, suffix: str) -> Path:
        return self._folder / f"{self._name}-{self.shards - 1:05d}{suffix}"

    def _close_table(self) -> None:
        if self.shards:
            np.save(self._stem(".documents.npy"), np.concatenate(self._table))
            self._table = []
