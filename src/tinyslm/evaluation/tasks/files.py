"""Read the rows of task files: JSON lines, JSON arrays, parquet."""

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
    """The rows of a file, each with its location for error messages, such as `mine.jsonl, line 3`.

    Raises `TinyslmError` for files that cannot be read, and for a line that is not a JSON object, with its location.
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
                raise TinyslmError(f"{path}, line {number} is too long: {size(len(line))}.", "Remove the line.")
            if line.strip(b"\xef\xbb\xbf \t\r\n"):
                place = f"{path.name}, line {number}"
                yield place, _object(place, line.removeprefix(b"\xef\xbb\xbf"))


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The non-empty lines of a text file, each with its location for error messages. Raises `TinyslmError`."""
    _check(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TinyslmError(f"{path} is not UTF-8 text: {error.reason}.", "Convert it to UTF-8.") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path.name}, line {number}", line.strip()


def files_in(path: Path, suffix: str) -> list[Path]:
    """The files in a folder whose names end in `suffix`, sorted by name; for a file, the file itself."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix == suffix)
    if not found:
        raise TinyslmError(f"{path} contains no {suffix} files.", "Check the path of the task's files.")
    return found


def _check(path: Path) -> None:
    """Raise `TinyslmError` if the path is not a file, or the file is too large."""
    try:
        about = path.stat()
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", "Check the path of the task's file.") from None
    if not path.is_file():
        raise TinyslmError(f"{path} is not a file.", "Give a file of examples: JSON lines, JSON or parquet.")
    if about.st_size > LARGEST_FILE:
        raise TinyslmError(
            f"{path} is too large: {size(about.st_size)}.", f"Give a file of at most {size(LARGEST_FILE)}."
        )


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
        raise TinyslmError(f"{path} is not a valid parquet file: {error}", "Download the file again.") from None
