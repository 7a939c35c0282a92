"""The reader for JSON records: one per line, in an array, or concatenated, each over any number of lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.data.columns import find_column
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import PIECE, Tally
from tinyslm.data.readers import READERS, TEXT, Chunk, Reader
from tinyslm.data.record_text import is_conversation, record_text
from tinyslm.data.sources import Input

LINES = ".jsonl"
RECORDS = "records"
SAMPLE = 50  # number of records for choosing the text column
MOST_VALUES = 2_000_000
"""Maximum number of values in a record; each takes about a hundred bytes of memory, even if it is short in the file."""
FEW_BYTES = 1 << 23  # values of records up to this size are not counted

_BETWEEN = re.compile(r"[\s,]*")
_NEAR_END = 12  # characters of the longest literal, or of an escape in a string


def _json_chunks(opened: Input, config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    stream, name = opened.utf8(config, tally), opened.source.name
    head = stream.read(PIECE)
    text = head.decode(errors="ignore").lstrip()  # a character may be cut at the end
    if not text:
        return
    blocks = chain((head,), iter(partial(stream.read, PIECE), b""))
    if opened.source.suffix == ".json" and len(head) < PIECE and not config.text_column and not _has_records(text):
        tally.add("json_as_text", name)
        yield Chunk(TEXT, name, opened.source.origin, 0, head)
    elif _is_in_lines(text, name, whole=len(head) < PIECE):
        records = [_loads(line) for line in text.split("\n", maxsplit=SAMPLE)[:SAMPLE]]
        yield from _line_chunks(opened, blocks, _column(records, name, config, tally), config, tally)
    else:
        yield from _record_chunks(opened, blocks, config, tally)


def _has_records(text: str) -> bool:
    """Whether the text of a whole file holds records, and not a single object without text, numbers, or no JSON."""
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return text[0] in "[{"
    if isinstance(value, list):
        return _are_records(value)
    alone = not text[end:].strip()
    return _are_records([value]) and not (alone and isinstance(value, dict) and not _has_text(value))


def _are_records(values: list[Any]) -> bool:
    return any(isinstance(one, dict | str) or is_conversation(one) for one in values)


def _has_text(record: dict[str, Any]) -> bool:
    """Whether a record has text, judged only by the names of its columns."""
    try:
        return record_text(record, "", "", "", Tally()) is not None or bool(find_column(list(record), "", ""))
    except TinyslmError:
        return False


def _is_in_lines(text: str, name: str, *, whole: bool) -> bool:
    """Whether each line is a record, judged by the start of the file. Raises `TinyslmError` if it is not JSON."""
    lines = text.split("\n", maxsplit=20)
    value = _loads(lines[0])
    if isinstance(value, dict | str) or is_conversation(value):
        return True
    try:
        if text[0] != "[":
            json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        if not whole and _is_cut(error, text):
            return False
        if any(isinstance(_loads(line), dict) for line in lines[1:20]):
            return True
        raise _broken(name, error) from None
    return False


def _loads(line: str | bytes) -> Any:
    """The JSON value of a line, or the exception if it is invalid."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def _column(records: list[Any], name: str, config: DataConfig, tally: Tally) -> str:
    """The column that holds the text; "" if `record_text` needs none. Raises `TinyslmError` if no column has text."""
    if not _are_records(records):
        raise next(
            (one for one in records if isinstance(one, TinyslmError)),
            TinyslmError(
                f"{name} holds no records: objects, strings or conversations.",
                "Leave it out, or rename it to .txt to read it as text.",
            ),
        )
    rows = [one for one in records if isinstance(one, dict)]
    if not rows or (not config.text_column and record_text(rows[0], "", "", name, Tally()) is not None):
        return ""
    columns = list(rows[0])
    return find_column(columns, config.text_column, name, ([row.get(one) for one in columns] for row in rows), tally)


def _line_chunks(
    opened: Input, blocks: Iterable[bytes], column: str, config: DataConfig, tally: Tally
) -> Iterator[Chunk]:
    """Yield chunks of whole lines, of about `PIECE` bytes. Skips and counts lines longer than `max_record_bytes`."""
    source, line, size = opened.source, 1, 0
    parts: list[bytes] = []  # a line may be longer than a block: joined once, when its end is found
    for block in blocks:
        rest = block
        if size > config.max_record_bytes:
            _, end, rest = block.partition(b"\n")
            if not end:
                continue
            line, size = line + 1, 0
        end_of_lines = rest.rfind(b"\n") + 1
        if end_of_lines:
            data = b"".join([*parts, rest[:end_of_lines]])
            yield Chunk(LINES, source.name, source.origin, line, data, column=column)
            line, size = line + data.count(b"\n"), 0
            parts.clear()
        parts.append(rest[end_of_lines:])
        size += len(parts[-1])
        if size > config.max_record_bytes:
            _too_long(f"{source.name}:{line}", config, tally)
            parts.clear()
    if any(parts):
        yield Chunk(LINES, source.name, source.origin, line, b"".join(parts), column=column)


def _parse_lines(chunk: Chunk, config: DataConfig, tally: Tally) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_lines(chunk.data), start=chunk.first):
        place = f"{chunk.source}:{number}"
        if len(line) > config.max_record_bytes:
            _too_long(place, config, tally)
        elif _has_too_many_values(line):
            tally.add("complex_records", place)
        elif line.strip() and (text := _text_of(_loads(line), chunk.column, place, config, tally)) is not None:
            yield number, text


def _lines(data: bytes) -> Iterator[bytes]:
    """Yield the lines of `data` without a list in memory."""
    start, end = 0, data.find(b"\n")
    while end >= 0:
        yield data[start:end]
        start, end = end + 1, data.find(b"\n", end + 1)
    yield data[start:]


def _record_chunks(opened: Input, blocks: Iterable[bytes], config: DataConfig, tally: Tally) -> Iterator[Chunk]:
    """Yield chunks with the texts of records that are in an array or concatenated."""
    source = opened.source
    records = _records(codecs.iterdecode(blocks, "utf-8"), source.name, config)
    first = list(islice(records, SAMPLE))
    column = _column(first, source.name, config, tally)
    rows: list[tuple[int, str]] = []
    size = number = 0
    for number, record in enumerate(chain(first, records), start=1):
        if isinstance(record, TinyslmError):
            break
        text = _text_of(record, column, f"{source.name}:{number}", config, tally)
        if text is not None:
            rows.append((number, text))
            size += len(text)
        if size >= PIECE:
            yield Chunk(RECORDS, source.name, source.origin, rows[0][0], rows=tuple(rows))
            rows, size = [], 0
    if rows:
        yield Chunk(RECORDS, source.name, source.origin, rows[0][0], rows=tuple(rows))
    if isinstance(record, TinyslmError):
        raise record


def _parse_records(chunk: Chunk, _config: DataConfig, _tally: Tally) -> Iterator[tuple[int, str]]:
    yield from chunk.rows


def _records(blocks: Iterator[str], name: str, config: DataConfig) -> Iterator[Any]:
    """Yield the values of a file, in arrays or concatenated, each as soon as it has been read.

    At a value that is invalid, truncated or too long, yields a `TinyslmError` and stops: the start of the next value is
    unknown.
    """
    decoder, limit = json.JSONDecoder(), config.max_record_bytes
    text, position, wanted, in_array, number = "", 0, 0, False, 1
    for more in chain(blocks, ("",)):
        text = text[position:] + more
        position = 0
        if more and len(text) < wanted:  # a record longer than a block: wait for twice as much of it
            continue
        while True:
            position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
            if position == len(text):
                break
            if text[position] == "]" if in_array else text[position] == "[":
                in_array, position = not in_array, position + 1
                continue
            try:
                value, position = _decoded(decoder, text, position, limit)
            except (ValueError, RecursionError) as error:
                if len(text) - position > limit:
                    what = f"{name}: record {number} is longer than {limit} bytes."
                    yield TinyslmError(what, "Raise the limit: --data.max_record_bytes")
                elif not more or not _is_cut(error, text):
                    yield _broken(f"{name}, record {number},", error)
                else:
                    wanted = 2 * (len(text) - position)
                    break
                return
            number, wanted = number + 1, 0
            yield value
    if in_array:
        yield _broken(name, "its array does not end")


def _decoded(decoder: json.JSONDecoder, text: str, start: int, limit: int) -> tuple[Any, int]:
    """Decode the value at `start`, and find its end. Raises `ValueError` if it is invalid or exceeds the limits."""
    if len(text) - start > FEW_BYTES and _has_too_many_values(text):
        raise ValueError(f"it has more than {MOST_VALUES} values")
    value, end = decoder.raw_decode(text, start)
    if end - start > limit:
        raise ValueError("it is too long")
    return value, end


def _broken(what: str, reason: object) -> TinyslmError:
    return TinyslmError(
        f"{what} is not valid JSON: {reason}.", "Correct it, leave it out, or rename it to .txt to read it as text."
    )


def _is_cut(error: Exception, text: str) -> bool:
    """Whether more text may resolve a decoding error."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= len(text) - _NEAR_END or error.msg.startswith("Unterminated string")


def _has_too_many_values(data: str | bytes) -> bool:
    if len(data) <= FEW_BYTES:
        return False
    signs = ",[{"
    if isinstance(data, str):
        return sum(map(data.count, signs)) > MOST_VALUES
    return sum(map(data.count, signs.encode())) > MOST_VALUES


def _too_long(place: str, config: DataConfig, tally: Tally) -> None:
    tally.add("long_records", place)
    if config.strict:
        raise TinyslmError(
            f"{place} is longer than {config.max_record_bytes} bytes.", "Raise the limit: --data.max_record_bytes"
        )


def _text_of(record: Any, column: str, place: str, config: DataConfig, tally: Tally) -> str | None:
    """The text of a record. tally: counts records without text, and values that are no records (strict: an error)."""
    if _are_records([record]):
        text = record_text(record, config.text_column, column, place, tally)
        if text is None:
            tally.add("rows_without_text", place)
        return text
    tally.add("broken_lines", place)
    if config.strict:
        reason = f"not valid JSON ({record})" if isinstance(record, Exception) else "not a JSON object"
        raise TinyslmError(
            f"{place} is {reason}.", "Correct or remove it, or run without --strict to skip such records."
        )
    return None


for _suffix in (LINES, ".ndjson", ".json"):
    READERS.add(_suffix, Reader(_json_chunks, _parse_lines))
READERS.add(RECORDS, Reader(_json_chunks, _parse_records))
