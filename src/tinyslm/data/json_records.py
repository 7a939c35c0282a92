"""The reader for records of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tinyslm.core.errors import TinyslmError
from tinyslm.data.columns import find_column
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import PIECE, Tally
from tinyslm.data.readers import READERS, Chunk, Reader
from tinyslm.data.sources import Input


def _line_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    """Whole lines, about `PIECE` bytes of them."""
    source, stream, line = opened.source, opened.utf8(config, tally), 1
    parts: list[bytes] = []  # a line may be longer than a block: joined once, when its end is found
    while block := stream.read(PIECE):
        end = block.rfind(b"\n") + 1
        if end:
            data = b"".join([*parts, block[:end]])
            parts = []
            yield Chunk(".jsonl", source.name, source.origin, line, data)
            line += data.count(b"\n")
        parts.append(block[end:])
    if any(parts):
        yield Chunk(".jsonl", source.name, source.origin, line, b"".join(parts))


def _parse_lines(chunk: Chunk, config: DataConfig, tally: Tally) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_lines(chunk.data), start=chunk.first):
        if not line.strip():
            continue
        place = f"{chunk.source}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = error
        if not isinstance(row, dict):
            _broken_line(place, row, config, tally)
        elif isinstance(text := _text_of_row(row, config, place, must=number == 1), str):
            yield number, text
        else:
            tally.add("rows_without_text", place)


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines of `data`, one copied at a time; a single one not at all."""
    start, end = 0, data.find(b"\n")
    while end >= 0:
        yield data[start:end]
        start, end = end + 1, data.find(b"\n", end + 1)
    yield data[start:]


def _text_of_row(row: dict[str, object], config: DataConfig, place: str, *, must: bool) -> object:
    """The row's text. A first row that has no column for it is an error, a later one only has no text."""
    column = config.text_column or "text"
    if column in row:
        return row[column]
    try:
        return row[find_column(list(row), config.text_column, place)]
    except TinyslmError:
        if must:
            raise
        return None


def _broken_line(place: str, found: object, config: DataConfig, tally: Tally) -> None:
    tally.add("broken_lines", place)
    if config.strict:
        reason = f"not valid JSON ({found})" if isinstance(found, Exception) else "not a JSON object"
        raise TinyslmError(
            f"{place} is {reason}.", "Mend or remove that line, or run without strict to skip and count such lines."
        )


for _suffix in (".jsonl", ".ndjson"):
    READERS.add(_suffix, Reader(_line_chunks, _parse_lines))
