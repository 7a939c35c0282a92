"""Rows from JSONL, CSV, Parquet and text files and from standard input, read one at a time."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Generator, Iterator, Mapping
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
"""Maximum length of a line of text or JSON in bytes; a longer line is a row with a problem."""

MOST_VALUES = 1_000_000
"""Maximum number of JSON values in a row; each takes up to a hundred bytes of memory."""

KINDS = ("jsonl", "csv", "parquet", "text")
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".log": "text",
    ".md": "text",
}


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Row:
    """One row of an input: its number from 1 on, and its values by column or the problem that prevents reading it.

    check: a checksum of this row and all rows before it, which a resumed job compares.
    """

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    check: str = ""


class Rows:
    """The rows of an input; iterate over them once, and close the iterator.

    Attributes: `kind`: one of `KINDS`. `share`: the fraction of the input already read, `None` if unknown.
    """

    def __init__(self, place: str, kind: str = "") -> None:
        """place: a path, or `-` for standard input. kind: by default, determined by the file name's suffix.

        Standard input is text unless its first line is a JSON object. Raises `TinyslmError` for an unknown kind and
        for a file that cannot be read.
        """
        self.place = "standard input" if place == "-" else place
        self.kind = _kind(place, kind)
        self.share: float | None = None
        self._path = None if place == "-" else Path(place)
        self._size = _size(self._path) if self._path else 0

    def __iter__(self) -> Generator[Row]:
        """Every row; broken ones carry their problem. Raises `TinyslmError` if the file is not of its kind."""
        reader = {"csv": self._csv, "parquet": self._parquet}.get(self.kind, self._lines)
        digest = xxhash.xxh3_64()
        with self._path.open("rb") if self._path else nullcontext(sys.stdin.buffer) as self._raw:
            stream = self._raw if self.kind == "parquet" else without_mark(self._raw, self.place)
            for number, (values, problem) in enumerate(reader(stream), start=1):
                digest.update(json.dumps([values, problem], sort_keys=True, default=str).encode())
                yield Row(number, values, problem, digest.hexdigest())

    def _lines(self, stream: BinaryIO) -> Iterator[tuple[dict[str, Any], str]]:
        """Lines of JSON or text; empty ones are skipped."""
        done = 0
        for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
            done += len(line)
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                done += _skip_line(stream)
                yield {}, f"the line is longer than {LONGEST_LINE} bytes"
                continue
            self.share = min(1.0, done / self._size) if self._size else None
            if not line.strip():
                continue
            if not self.kind:
                self.kind = "text" if _json_row(line)[1] else "jsonl"
            yield _json_row(line) if self.kind == "jsonl" else _text_row(line)

    def _csv(self, stream: BinaryIO) -> Iterator[tuple[dict[str, Any], str]]:
        """Rows of a table; columns without a name are omitted."""
        tabs = self._path is not None and self._path.suffix.lower() == ".tsv"
        try:
            table = Table(stream, self.place, tabs=tabs, limit=LONGEST_LINE)
            names = [column for column in table.columns if column]
            if len(set(names)) < len(names):
                raise TinyslmError(f"{self.place} has two columns with the same name.", "Rename one of them.")
            for row in table:
                if self._size:
                    self.share = min(1.0, self._raw.tell() / self._size)  # a block is read ahead
                problem = f"the row in line {row.line} cannot be read: {PROBLEMS[row.problem]}" if row.problem else ""
                values = zip(table.columns, row.cells, strict=False)
                yield {column: cell for column, cell in values if column}, problem
        except UnicodeDecodeError as error:
            raise TinyslmError(f"{self.place} is not a CSV file in UTF-8 ({error}).", "Save it as UTF-8.") from None

    def _parquet(self, stream: BinaryIO) -> Iterator[tuple[dict[str, Any], str]]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise require_extra("documents", "Reading Parquet files") from None
        source = stream if self._size else io.BytesIO(stream.read())
        try:
            table = pyarrow.parquet.ParquetFile(source)
            done = 0
            for batch in table.iter_batches(batch_size=256):
                for values in batch.to_pylist():
                    done += 1
                    self.share = done / table.metadata.num_rows
                    yield values, ""
        except (pyarrow.ArrowException, OSError) as error:
            raise TinyslmError(f"{self.place} is not a valid Parquet file ({error}).", "Write it again.") from None


def kind_of(path: Path) -> str:
    """The kind of a file, one of `KINDS`, by its suffix; "" for an unknown suffix."""
    return _SUFFIXES.get(path.suffix.lower(), "")


def _kind(place: str, given: str) -> str:
    if given and given not in KINDS:
        raise TinyslmError(f'There is no input format "{given}".', did_you_mean(given, KINDS))
    kind = given or ("" if place == "-" else kind_of(Path(place)))
    if not kind and place != "-" and Path(place).is_dir():
        raise TinyslmError(f"{place} is a folder.", "Give the files in it.")
    if not kind and place != "-":
        raise TinyslmError(
            f"The format of {place} is unknown.",
            "Name it .jsonl, .csv, .parquet or .txt; some commands also have --format.",
        )
    return kind


def _size(path: Path) -> int:
    """The size of a readable file in bytes; 0 for a named pipe, which can be opened only once."""
    try:
        if path.is_fifo():
            return 0
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", "Check the path and its permissions.") from None


def _skip_line(stream: BinaryIO) -> int:
    """Skip the rest of a line. Returns its length in bytes."""
    skipped = 0
    for part in iter(lambda: stream.readline(LONGEST_LINE), b""):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _json_row(line: bytes) -> tuple[dict[str, Any], str]:
    """The JSON object on a line, or an empty one and the problem."""
    if line.count(b",") >= MOST_VALUES and _STRING.sub(b"", line).count(b",") >= MOST_VALUES:
        return {}, f"the line has more than {MOST_VALUES:,} values"
    try:
        value = parse_json(line)
    except JsonError as error:
        return {}, f"the line is not valid JSON: {error}"
    return (value, "") if isinstance(value, dict) else ({}, "the line is not a JSON object")


def _text_row(line: bytes) -> tuple[dict[str, Any], str]:
    try:
        return {"text": line.decode("utf-8").rstrip("\r\n")}, ""
    except UnicodeDecodeError:
        return {}, "the line is not UTF-8 text"
