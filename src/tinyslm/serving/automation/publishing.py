"""From a finished journal to the file that was asked for: JSONL, CSV or Parquet, whole or not at all.

In a table, each property of an answer under a schema has a column of its own, and so has each column that was kept. A
name that is taken already gets its origin put before it: `value.error`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.files import disk_error, sync_folder
from tinyslm.serving.automation.journal import as_json

Lines = Callable[[], Iterator[dict[str, Any]]]
"""Gives the results from the first one on, each time it is called."""

ROWS = 1024  # rows of Parquet written at a time
_INT64 = range(-(2**63), 2**63)


def check_ending(out: Path) -> None:
    """Raise `TinyslmError` for a file that could not be written in the end."""
    if out.suffix.lower() not in _WRITERS:
        raise TinyslmError(f"{out} does not tell its format by its ending.", f"Let it end in {', '.join(_WRITERS)}.")
    if out.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise require_extra("documents", "Writing Parquet files") from None


def publish(results: Lines, out: Path, fields: tuple[str, ...] = ()) -> None:
    """Write all results to `out`, replacing it in one step; `fields`: properties that have a column in any case."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        _WRITERS[out.suffix.lower()](results, temporary, fields)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        raise disk_error(out, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    sync_folder(out.parent)


def _jsonl(results: Lines, path: Path, _fields: tuple[str, ...]) -> None:
    with path.open("wb") as file:
        for result in results():
            file.write(as_json(result) + b"\n")


def _csv(results: Lines, path: Path, fields: tuple[str, ...]) -> None:
    columns = _columns(results, fields)
    file: TextIO
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns.values())
        for result in results():
            flat = dict(_flat(result))
            writer.writerow([_cell(flat.get(place)) for place in columns])


def _parquet(results: Lines, path: Path, fields: tuple[str, ...]) -> None:
    """Two passes: the first one finds a type for each column that holds all its values."""
    import pyarrow
    import pyarrow.parquet

    columns = _columns(results, fields)
    types = dict.fromkeys(columns, "")
    for result in results():
        for place, value in _flat(result):
            if value is not None:
                types[place] = _joint(types[place], _type(value))
    known = {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    schema = pyarrow.schema([(name, known.get(types[place], pyarrow.string())) for place, name in columns.items()])

    def written(place: tuple[str, ...], value: Any) -> Any:
        return value if value is None or types[place] in known else _text(value)

    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for result in results():
            flat = dict(_flat(result))
            rows.append({name: written(place, flat.get(place)) for place, name in columns.items()})
            if len(rows) == ROWS:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))


_WRITERS: dict[str, Callable[[Lines, Path, tuple[str, ...]], None]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}

Place = tuple[str, ...]
"""Where a value lies in a result: `("tokens",)`, or `("value", "price")`."""


def _flat(result: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    """The values of a result that have columns: a text only where no value stands for it."""
    for name, value in result.items():
        if name in ("input", "value") and isinstance(value, dict):
            for part, inner in value.items():
                yield (name, part), inner
        elif name != "text" or "value" not in result:
            yield (name,), value


def _columns(results: Lines, fields: tuple[str, ...]) -> dict[Place, str]:
    """The columns of all results by their places, in order: the row, what was kept, the answer, how it came about."""
    places: dict[Place, None] = {("value", field): None for field in fields}
    bare = False
    for result in results():
        places |= dict.fromkeys(place for place, _ in _flat(result))
        bare = bare or isinstance(result.get("value"), str | int | float | list)
    if not bare:
        places.pop(("value",), None)
    order = {"row": 0, "input": 1, "text": 2, "value": 2}
    names: dict[Place, str] = {}
    ordered = sorted(places, key=lambda place: order.get(place[0], 3))
    taken = {place[0] for place in ordered if len(place) == 1}
    for place in ordered:
        name = place[-1]
        if len(place) > 1 and (name in taken or name in names.values()):
            name = ".".join(place)
        names[place] = name
    return names


def _type(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int" if value in _INT64 else "text"
        case float():
            return "float"
        case _:
            return "text"


def _joint(one: str, other: str) -> str:
    """A type that holds the values of both."""
    if one in ("", other):
        return other
    return "float" if {one, other} == {"int", "float"} else "text"


def _cell(value: Any) -> Any:
    return (
        ""
        if value is None
        else value
        if isinstance(value, int | float) and not isinstance(value, bool)
        else _text(value)
    )


def _text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
