"""Readers for tables: CSV, Parquet, data sets of the hub."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import PIECE, Tally
from tinyslm.data.readers import READERS, Chunk, Reader, find_column
from tinyslm.data.sources import HUB, Input, unreadable

TABLE = "table"
ROWS = 256  # rows of Parquet decoded at a time


def _parse_table(chunk: Chunk, _config: DataConfig, _tally: Tally) -> Iterator[tuple[int, str]]:
    yield from chunk.rows


def _table_chunks(opened: Input, texts: Iterable[tuple[int, Any]], tally: Tally) -> Iterator[Chunk]:
    """Rows `(number, text)` in chunks of about `PIECE` characters; a row without a text is counted."""
    source = opened.source
    rows: list[tuple[int, str]] = []
    size = 0
    for number, text in texts:
        if not isinstance(text, str):
            tally.add("rows_without_text", f"{source.name}:{number}")
            continue
        rows.append((number, text))
        size += len(text)
        if size >= PIECE:
            yield Chunk(TABLE, source.name, source.origin, rows[0][0], rows=tuple(rows))
            rows, size = [], 0
    if rows:
        yield Chunk(TABLE, source.name, source.origin, rows[0][0], rows=tuple(rows))


def _csv_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    name = opened.source.name
    lines = io.TextIOWrapper(opened.utf8(config, tally), encoding="utf-8", newline="")
    csv.field_size_limit(sys.maxsize)
    header = lines.readline()
    delimiter = max(",;\t", key=header.count)
    columns = next(csv.reader([header], delimiter=delimiter), [])
    column = columns.index(find_column(columns, config.text_column, name))
    try:
        rows = csv.reader(lines, delimiter=delimiter)
        texts = (
            (number, row[column] if len(row) > column else None) for number, row in enumerate(rows, start=2) if row
        )
        yield from _table_chunks(opened, texts, tally)
    except csv.Error as error:
        raise unreadable(name, error) from error
    finally:
        lines.detach()


def _parquet_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise require_extra("documents", "Reading Parquet files") from None
    name = opened.source.name
    stream = (
        opened.stream if opened.stream.seekable() and not name.endswith(".gz") else io.BytesIO(opened.stream.read())
    )
    try:
        table = pyarrow.parquet.ParquetFile(stream)
        column = find_column(table.schema_arrow.names, config.text_column, name)
        batches = table.iter_batches(batch_size=ROWS, columns=[column])
        texts = (text for batch in batches for text in batch.column(0).to_pylist())
        yield from _table_chunks(opened, enumerate(texts, start=1), tally)
    except pyarrow.ArrowException as error:
        raise unreadable(name, error) from error


def _hub_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    """`hf://NAME[:split]`: rows as they arrive, nothing stored."""
    try:
        import datasets
    except ImportError:
        raise require_extra("hub", "Reading data sets of the hub") from None
    name = opened.source.name
    dataset, _, split = name.removeprefix(HUB).partition(":")
    try:
        rows = iter(datasets.load_dataset(dataset, split=split or "train", streaming=True))
        first = next(rows, None)
    except Exception as error:  # whatever the library raises: no such name, no network, no such split
        raise TinyslmError(
            f"Could not open {name}: {str(error).rstrip('.')}.",
            "Check the name, the split (hf://NAME:SPLIT) and the network.",
        ) from error
    if first is None:
        return
    column = find_column(list(first), config.text_column, name)
    texts = (row.get(column) for part in ((first,), rows) for row in part)
    yield from _table_chunks(opened, enumerate(texts, start=1), tally)


READERS.add(TABLE, Reader(_csv_chunks, _parse_table))
for _suffix in (".csv", ".tsv"):
    READERS.add(_suffix, Reader(_csv_chunks, _parse_table))
READERS.add(".parquet", Reader(_parquet_chunks, _parse_table))
READERS.add(HUB, Reader(_hub_chunks, _parse_table))
