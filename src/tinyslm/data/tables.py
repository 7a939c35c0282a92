"""Readers for tables: CSV, TSV, Parquet, datasets of the Hugging Face hub."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.data.columns import TEXT_COLUMNS, find_column
from tinyslm.data.config import DataConfig
from tinyslm.data.csv_table import PROBLEMS, Table
from tinyslm.data.documents import PIECE, Tally
from tinyslm.data.readers import READERS, Chunk, Reader
from tinyslm.data.sources import HUB, Input, unreadable

TABLE = "table"
ROWS = 256  # rows of Parquet decoded at a time


def _parse_table(chunk: Chunk, _config: DataConfig, _tally: Tally) -> Iterator[tuple[int, str]]:
    yield from chunk.rows


def _table_chunks(opened: Input, texts: Iterable[tuple[int, Any]], tally: Tally) -> Iterator[Chunk]:
    """Group rows `(number, text)` into chunks of about `PIECE` characters; rows without text are counted."""
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
    usual = frozenset([config.text_column.lower()] if config.text_column else TEXT_COLUMNS)
    tabs, limit = opened.source.suffix == ".tsv", config.max_record_bytes
    table = Table(opened.utf8(config, tally), name, tabs=tabs, limit=limit, usual=usual)
    if not table.columns:  # empty, or not text; `utf8` has counted it
        return
    if table.named_rows:
        tally.add("named_rows", name)
    if table.titles:
        tally.add("title_lines", name)
    column = find_column(table.columns, config.text_column, name, (row.cells for row in table.sample), tally)
    yield from _table_chunks(opened, _cells(table, table.columns.index(column), name, config, tally), tally)


def _cells(table: Table, column: int, name: str, config: DataConfig, tally: Tally) -> Iterator[tuple[int, str | None]]:
    """The line and the text of each row; unreadable rows are counted (strict: an error)."""
    for row in table:
        if row.problem:
            tally.add(row.problem, f"{name}:{row.line}")
            if config.strict:
                raise TinyslmError(
                    f"The row in line {row.line} of {name} cannot be read: {PROBLEMS[row.problem]}.",
                    "Correct that line, or run without --strict to skip such rows.",
                )
        if row.cells:
            yield row.line, row.cells[column] if len(row.cells) > column else None


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
        sample = (tuple(row.values()) for batch in table.iter_batches(batch_size=ROWS) for row in batch.to_pylist())
        column = find_column(table.schema_arrow.names, config.text_column, name, sample, tally)
        batches = table.iter_batches(batch_size=ROWS, columns=[column])
        texts = (text for batch in batches for text in batch.column(0).to_pylist())
        yield from _table_chunks(opened, enumerate(texts, start=1), tally)
    except pyarrow.ArrowException as error:
        raise unreadable(name, error) from error


def _hub_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    """Stream the rows of `hf://NAME[:split]` without storing them."""
    try:
        import datasets
    except ImportError:
        raise require_extra("hub", "Reading data sets of the hub") from None
    name = opened.source.name
    dataset, _, split = name.removeprefix(HUB).partition(":")
    try:
        rows = iter(datasets.load_dataset(dataset, split=split or "train", streaming=True))
        first = next(rows, None)
    except Exception as error:  # the library raises many classes: no such name, no network, no such split
        raise TinyslmError(
            f"Could not open {name}: {str(error).rstrip('.')}.",
            "Check the name, the split (hf://NAME:SPLIT) and the network.",
        ) from error
    if first is None:
        return
    column = find_column(list(first), config.text_column, name, [tuple(first.values())], tally)
    texts = (row.get(column) for part in ((first,), rows) for row in part)
    yield from _table_chunks(opened, enumerate(texts, start=1), tally)


READERS.add(TABLE, Reader(_csv_chunks, _parse_table))
for _suffix in (".csv", ".tsv"):
    READERS.add(_suffix, Reader(_csv_chunks, _parse_table))
READERS.add(".parquet", Reader(_parquet_chunks, _parse_table))
READERS.add(HUB, Reader(_hub_chunks, _parse_table))
