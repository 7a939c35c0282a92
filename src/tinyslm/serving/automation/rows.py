"""Rows from JSONL, CSV, Parquet, text files and standard input, one at a time: memory stays flat for large inputs."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from tinyslm.core.errors import TinyslmError, did_you_mean, require_extra
from tinyslm.core.strict_json import JsonError, parse_json
from tinyslm.core.text_files import without_mark
from tinyslm.data.csv_table import PROBLEMS, Table

LONGEST_LINE = 1 << 26
"""Bytes of a line of text or JSON; a longer one is told as that row's problem."""

KINDS = ("jsonl", "csv", "parquet", "text")
_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".log": "text",
    ".md": "text",
}


@dataclass(frozen=True)
class Row:
    """One row of an input: its number from 1 on, its values by column, or what is wrong with it.

    check: a checksum of this row and all before it, so that a resumed run knows that they are what they were.
    """

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    check: str = ""


class Rows:
    """The rows of an input; iterate over them once.

    Attributes: `kind`: one of `KINDS`; `share`: how much of the input was read, `None` where that is not known.
    """

    def __init__(self, place: str, kind: str = "") -> None:
        """`place`: a path, or `-` for standard input. `kind`: taken from the path's ending unless it is given.

        Standard input is read as text, unless its first line is a JSON object.
        """
        self.place = "standard input" if place == "-" else place
        self.kind = _kind(place, kind)
        self.share: float | None = None
        self._path = None if place == "-" else Path(place)
        self._size = _size(self._path) if self._path else 0

    def __iter__(self) -> Iterator[Row]:
        """Every row; those that are broken carry their problem. Raises `TinyslmError` for what is no such file."""
        reader = {"csv": self._csv, "parquet": self._parquet}.get(self.kind, self._lines)
        digest = xxhash.xxh3_64()
        with self._path.open("rb") if self._path else nullcontext(sys.stdin.buffer) as self._raw:
            stream = self._raw if self.kind == "parquet" else without_mark(self._raw, self.place)
            for number, (values, problem) in enumerate(reader(stream), start=1):
                digest.update(json.dumps([values, problem], sort_keys=True, default=str).encode())
                yield Row(number, values, problem, digest.hexdigest())

    def _lines(self, stream: BinaryIO) -> Iterator[tuple[dict[str, Any], str]]:
        """Lines of JSON or text; empty ones do not count."""
        done, size = 0, self._size
        for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                done += len(line) + self._skip_line(stream)
                yield {}, f"the line is longer than {LONGEST_LINE} bytes"
                continue
            done += len(line)
            self.share = min(1.0, done / size) if size else None
            if not line.strip():
                continue
            if not self.kind:
                self.kind = "jsonl" if _object(line)[0] is not None else "text"
            yield _read_json(line) if self.kind == "jsonl" else _read_line(line)

    def _skip_line(self, stream: BinaryIO) -> int:
        skipped = 0
        for part in iter(lambda: stream.readline(LONGEST_LINE), b""):
            skipped += len(part)
            if part.endswith(b"\n"):
                break
        return skipped

    def _csv(self, stream: BinaryIO) -> Iterator[tuple[dict[str, Any], str]]:
        """Rows of a table; columns without a name are left out."""
        tabs = self._path is not None and self._path.suffix.lower() == ".tsv"
        try:
            table = Table(stream, self.place, tabs=tabs, limit=LONGEST_LINE)
            named = [column for column in table.columns if column]
            if len(set(named)) < len(named):
                raise TinyslmError(f"{self.place} has two columns of one name.", "Give its columns different names.")
            for row in table:
                if self._size:
                    self.share = min(1.0, self._raw.tell() / self._size)  # a block is read ahead
                problem = f"the row in line {row.line} cannot be read: {PROBLEMS[row.problem]}" if row.problem else ""
                values = zip(table.columns, row.cells, strict=False)
                yield {column: cell for column, cell in values if column}, problem
        except UnicodeDecodeError as error:
            raise TinyslmError(f"{self.place} is no CSV file in UTF-8 ({error}).", "Save it as such.") from None

    def _parquet(self, stream: BinaryIO) -> Iterator[tuple[dict[str, Any], str]]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise require_extra("documents", "Reading Parquet files") from None
        source = stream if self._size else io.BytesIO(stream.read())
        try:
            table = pyarrow.parquet.ParquetFile(source)
            total, done = table.metadata.num_rows, 0
            for batch in table.iter_batches(batch_size=256):
                for values in batch.to_pylist():
                    done += 1
                    self.share = done / total
                    yield values, ""
        except (pyarrow.ArrowException, OSError) as error:
            raise TinyslmError(f"{self.place} is no whole Parquet file ({error}).", "Write it again.") from None


def kind_of(path: Path) -> str:
    """One of `KINDS`, as the ending of a file tells; "" where it does not."""
    return _ENDINGS.get(path.suffix.lower(), "")


def _kind(place: str, given: str) -> str:
    if given and given not in KINDS:
        raise TinyslmError(f'There is no input format "{given}".', did_you_mean(given, KINDS))
    if given or place == "-":
        return given
    if not (kind := kind_of(Path(place))):
        raise TinyslmError(
            f"{place} does not tell its format by its ending.", f"Say which it is: --format {'|'.join(KINDS)}"
        )
    return kind


def _size(path: Path) -> int:
    """Bytes of a file that can be read; 0 for a pipe with a name, which can be opened only once."""
    try:
        if path.is_fifo():
            return 0
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", "Check the path and its permissions.") from None


def _object(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """The JSON object on a line, or why there is none."""
    try:
        value = parse_json(line)
    except JsonError as error:
        return None, f"the line is not valid JSON: {error}"
    return (value, "") if isinstance(value, dict) else (None, "the line is not a JSON object")


def _read_json(line: bytes) -> tuple[dict[str, Any], str]:
    values, problem = _object(line)
    return values or {}, problem


def _read_line(line: bytes) -> tuple[dict[str, Any], str]:
    try:
        return {"text": line.decode("utf-8").rstrip("\r\n")}, ""
    except UnicodeDecodeError:
        return {}, "the line is not UTF-8 text"
