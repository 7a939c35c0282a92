"""Write results as JSONL, CSV or Parquet: the file appears complete or not at all.

In a table, each property of an answer with a schema has a column of its own, and so has each input column that is
kept. A column whose name is taken gets its origin as a prefix: `value.error`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.files import disk_error, sync_file, sync_folder

Results = Callable[[], Iterator[dict[str, Any]]]
"""Yields the results from the first one on, each time it is called."""

Place = tuple[str, ...]
"""Where a value is in a result: `("tokens",)` or `("value", "price")`."""

ROW_GROUP = 1024  # rows of Parquet that are written at a time
_INT64 = range(-(2**63), 2**63)


def check_suffix(out: Path) -> None:
    """Raise `TinyslmError` for a file name whose format is unknown or cannot be written here."""
    if out.suffix.lower() not in _WRITERS:
        raise TinyslmError(f"The format of {out} is unknown.", f"Use a name that ends in {', '.join(_WRITERS)}.")
    if out.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise require_extra("documents", "Writing Parquet files") from None


def write_results(results: Results, out: Path, fields: tuple[str, ...] = ()) -> None:
    """Write all results to `out`, replacing it in one step; `fields`: properties that always have a column."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        _WRITERS[out.suffix.lower()](results, temporary, fields)
        sync_file(temporary)
        temporary.replace(out)
    except OSError as error:
        raise disk_error(out, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    sync_folder(out.parent)


def write_lines(results: Iterable[dict[str, Any]], path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(json_line(result) for result in results)


def json_line(value: Any) -> bytes:
    """A value as a line of JSON in UTF-8; lone surrogates, which UTF-8 cannot encode, are escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"


def _csv(results: Results, path: Path, fields: tuple[str, ...]) -> None:
    columns = _columns(results, fields)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns.values())
        for result in results():
            values = dict(_flat(result))
            writer.writerow([_cell(values.get(place)) for place in columns])


def _parquet(results: Results, path: Path, fields: tuple[str, ...]) -> None:
    """Two passes: the first one finds the type of each column."""
    import pyarrow
    import pyarrow.parquet

    columns = _columns(results, fields)
    types = dict.fromkeys(columns, "")
    for result in results():
        for place, value in _flat(result):
            if value is not None:
                types[place] = _common_type(types[place], _type(value))
    known = {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    schema = pyarrow.schema([(name, known.get(types[place], pyarrow.string())) for place, name in columns.items()])

    def row(result: dict[str, Any]) -> dict[str, Any]:
        values = dict(_flat(result))
        return {
            name: values.get(place) if types[place] in known or values.get(place) is None else _text(values[place])
            for place, name in columns.items()
        }

    rows = map(row, results())
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))


_WRITERS: dict[str, Callable[[Results, Path, tuple[str, ...]], None]] = {
    ".jsonl": lambda results, path, _: write_lines(results(), path),
    ".ndjson": lambda results, path, _: write_lines(results(), path),
    ".csv": _csv,
    ".parquet": _parquet,
}


def _flat(result: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    """The values of a result that have columns; the text only if there is no parsed value."""
    for name, value in result.items():
        if name in ("input", "value") and isinstance(value, dict):
            for part, inner in value.items():
                yield (name, part), inner
        elif name != "text" or "value" not in result:
            yield (name,), value


def _columns(results: Results, fields: tuple[str, ...]) -> dict[Place, str]:
    """The columns of all results by place, in this order: row, input columns, answer, everything else."""
    places: dict[Place, None] = {("value", field): None for field in fields}
    bare_values = False
    for result in results():
        places |= dict.fromkeys(place for place, _ in _flat(result))
        bare_values = bare_values or isinstance(result.get("value"), str | int | float | list)
    if not bare_values:
        places.pop(("value",), None)
    order = {"row": 0, "input": 1, "text": 2, "value": 2}
    ordered = sorted(places, key=lambda place: order.get(place[0], 3))
    top_level = {place[0] for place in ordered if len(place) == 1}
    names: dict[Place, str] = {}
    for place in ordered:
        taken = len(place) > 1 and (place[-1] in top_level or place[-1] in names.values())
        names[place] = ".".join(place) if taken else place[-1]
    return names


def _type(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        return "str"
    return type(value).__name__


def _common_type(first: str, second: str) -> str:
    """A type that holds the values of both."""
    if first in ("", second):
        return second
    return "float" if {first, second} == {"int", "float"} else "str"


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _text(value)


def _text(value: Any) -> str:
    """Text unchanged, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
