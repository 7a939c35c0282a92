"""Rows of task files: JSON lines, JSON arrays, parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.quantities import size
from tinyslm.core.strict_json import JsonError, parse_json

LARGEST_FILE = 1 << 30  # bytes
LONGEST_LINE = 1 << 24


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file, each with its place for messages, such as `mine.jsonl, line 3`.

    Raises `TinyslmError` for files that cannot be read, and naming the line that is not a JSON object.
    """
    _check(path)
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with path.open("rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        file.seek(0)
        if head[:1] == b"[":
            yield from _array(path, file.read())
            return
        for number, line in enumerate(file, 1):
            if len(line) > LONGEST_LINE:
                raise TinyslmError(f"{path}, line {number} has {size(len(line))}.", "Remove the line.")
            if line.strip(b"\xef\xbb\xbf \t\r\n"):
                place = f"{path.name}, line {number}"
                yield place, _object(place, line.removeprefix(b"\xef\xbb\xbf"))


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file that are not empty, each with its place for messages. Raises `TinyslmError`."""
    _check(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TinyslmError(f"{path} is not UTF-8 text: {error.reason}.", "Convert the file.") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path.name}, line {number}", line.strip()


def files_in(path: Path, suffix: str) -> list[Path]:
    """The files of a folder whose names end in `suffix`, in the order of their names; or the one file that it is."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix == suffix)
    if not found:
        raise TinyslmError(f"{path} has no files that end in {suffix}.", "Check the path of the task's files.")
    return found


def _check(path: Path) -> None:
    """Raise `TinyslmError` for what is no file, or too large a one."""
    try:
        about = path.stat()
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", "Check the path of the task's file.") from None
    if not path.is_file():
        raise TinyslmError(f"{path} is not a file.", "Give a file of examples: JSON lines, JSON or parquet.")
    if about.st_size > LARGEST_FILE:
        raise TinyslmError(f"{path} has {size(about.st_size)}.", f"Give at most {size(LARGEST_FILE)} of examples.")


def _object(place: str, line: bytes) -> dict[str, Any]:
    try:
        value = parse_json(line)
    except JsonError as error:
        raise TinyslmError(f"{place} is not valid JSON: {error}.", "Correct or remove the line.") from None
    if not isinstance(value, dict):
        raise TinyslmError(f"{place} is not a JSON object.", 'Write each example as {"field": value, ...}.')
    return value


def _array(path: Path, data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        values = parse_json(data.removeprefix(b"\xef\xbb\xbf"))
    except JsonError as error:
        raise TinyslmError(f"{path} is not valid JSON: {error}.", "Correct the file.") from None
    for number, value in enumerate(values, 1):
        place = f"{path.name}, item {number}"
        if not isinstance(value, dict):
            raise TinyslmError(f"{place} is not a JSON object.", 'Write each example as {"field": value, ...}.')
        yield place, value


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise require_extra("documents", "Reading parquet files") from None
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", row
    except pyarrow.ArrowException as error:
        raise TinyslmError(f"{path} is not a parquet file: {error}", "Get the file again.") from None
