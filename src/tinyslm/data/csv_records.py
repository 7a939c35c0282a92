"""Parse records of delimited text (CSV, TSV), with recovery from unclosed quotes.

Python's `csv` module extends a cell with an unclosed quote to the next quote, or to the end of the file. Here such a
record is reported as a problem, and reading resumes at the line after its first one.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from tinyslm.core.errors import TinyslmError

UNCLOSED = "unclosed_quotes"
LONG = "long_records"
LINE = 64
"""A record of more than `limit / LINE` lines (and of more than 1,000) counts as unclosed."""
MOST_CELLS = 1 << 17
MOST_AGAIN = 64  # limit of how often a line is read again, on average; in a correct file, hardly any line is


_TWO_QUOTATIONS = re.compile(r'[^"]*[^"\s]"\s.*\s"[^"\s][^"]*')
"""Matches the text between the first and the last quote of `"a" and "b"`: these quotes are part of the cell."""


class Line(NamedTuple):
    """A physical line: its number from 1 on, its text, its line end, and whether it was too long and has no text."""

    number: int
    text: str
    end: str
    long: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of a row that begins in `line`. problem: why it has no cells, or too few (see `csv_table.PROBLEMS`)."""

    line: int
    cells: list[str] = field(default_factory=list)
    problem: str = ""


class Lines:
    """Lines that can be put back: after an unclosed record, reading resumes at its second line."""

    def __init__(self, lines: Iterator[Line], name: str = "") -> None:
        """name: the file's name for error messages."""
        self._lines, self._name = lines, name
        self._back: deque[Line] = deque()
        self._again = -MOST_AGAIN  # lines put back in excess of the limit; negative below it

    def next(self) -> Line | None:
        """The next line; `None` at the end."""
        if self._back:
            return self._back.popleft()
        self._again -= MOST_AGAIN
        return next(self._lines, None)

    def put_back(self, lines: list[Line]) -> None:
        """Put `lines` back. Raises `TinyslmError` if this happens too often for the number of lines read."""
        self._back.extendleft(reversed(lines))
        self._again += len(lines)
        if self._again > 0:
            raise TinyslmError(
                f"{self._name} has too many quotes that are opened but not closed, up to line {lines[0].number}.",
                "Double each quote within a cell, or save the table without quotes, separated by tabs, as .tsv.",
            )


def read_lines(stream: BinaryIO, limit: int) -> Iterator[Line]:
    r"""Read the lines of a UTF-8 stream, ended by `\n`, `\r\n` or `\r`; those over `limit` characters have no text.

    Raises `UnicodeDecodeError` if the stream is not UTF-8.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    number = 0
    while line := text.readline(limit + 2):
        number += 1
        bare = line.rstrip("\r\n")
        end = line[len(bare) :]
        long = len(bare) > limit
        while long and not end and (more := text.readline(limit)):
            end = more[len(more.rstrip("\r\n")) :]
        yield Line(number, "" if long else bare, end, long)


class Dialect:
    """The delimiter and quoting of cells. delimiter: one character; empty: each line is one cell."""

    def __init__(self, delimiter: str, *, quoted: bool = True) -> None:
        self.delimiter = delimiter or "\0"
        self.quoted = quoted
        space = "" if delimiter == " " else " *+"
        closed = f"{space}(?={re.escape(self.delimiter)}|\\Z)"
        self._cell = re.compile(f'{space}"([^"]*+(?:""[^"]*+)*+)"{closed}')
        self._careless = re.compile(f'{space}"(.*?)"{closed}')  # with inner quotes that are not doubled: `"a "b" c"`
        self._opening = re.compile(f'{space}"')
        self._inside = re.compile('[^"]*+(?:""[^"]*+)*+')
        self._closed = re.compile(closed)

    def records(self, lines: Lines, limit: int) -> Iterator[Record]:
        """All records, without empty lines. A record of several lines has at most about `limit` characters."""
        while (line := lines.next()) is not None:
            if line.long:
                yield Record(line.number, problem=LONG)
            elif not line.text:
                continue
            elif line.text.count(self.delimiter) >= MOST_CELLS:
                yield Record(line.number, problem=LONG)
            elif not self.quoted or '"' not in line.text:
                yield Record(line.number, line.text.split(self.delimiter))
            else:
                yield self._record(line, lines, limit)

    def _record(self, line: Line, lines: Lines, limit: int) -> Record:
        cells: list[str] = []
        taken: list[Line] = []  # lines after the first one
        text, place, careless = line.text, 0, True
        while True:
            if match := self._cell.match(text, place):
                cells.append(match[1].replace('""', '"'))
                place = match.end()
            elif (opening := self._opening.match(text, place)) and self._stays_open(text, opening.end()):
                rest = self._close(text[opening.end() :] + (taken[-1] if taken else line).end, lines, taken, limit)
                if rest is None:
                    lines.put_back(taken)
                    return Record(line.number, problem=UNCLOSED)
                cell, place = rest
                cells.append(cell)
                text = taken[-1].text
            else:
                match = self._careless.match(text, place) if careless and opening else None
                if match and self.delimiter not in match[1] and _TWO_QUOTATIONS.fullmatch(match[1]):
                    match = opening = None
                # If this cell has no such end, later cells have none either.
                careless = careless and not (opening and not match)
                cell, place = (match[1], match.end()) if match else self._unquoted(text, place)
                if taken and '"' in cell:  # the quote that seemed to close the record opens another cell
                    lines.put_back(taken)
                    return Record(line.number, problem=UNCLOSED)
                cells.append(cell)
            if place == len(text):
                return Record(line.number, cells)
            place += 1

    def _stays_open(self, text: str, start: int) -> bool:
        inside = self._inside.match(text, start)
        return inside is not None and inside.end() == len(text)

    def _close(self, begun: str, lines: Lines, taken: list[Line], limit: int) -> tuple[str, int] | None:
        """Read the rest of a cell that begins with `begun`. Returns the cell, and its end in the last line.

        `None` if no quote closes it within the limits, or if other text follows the closing quote.
        """
        parts, size = [begun], len(begun)
        while (line := lines.next()) is not None:
            taken.append(line)
            size += len(line.text) + len(line.end)
            if line.long or size > limit or len(taken) > max(1000, limit // LINE):
                return None
            inside = self._inside.match(line.text)
            end = inside.end() if inside else 0
            parts.append(line.text[:end])
            if end < len(line.text):
                closed = self._closed.match(line.text, end + 1)
                return ("".join(parts).replace('""', '"'), closed.end()) if closed else None
            parts.append(line.end)
        return None

    def _unquoted(self, text: str, place: int) -> tuple[str, int]:
        """A cell up to the next delimiter, such as `5" pipe` or `"So" he said`, and its end."""
        end = text.find(self.delimiter, place)
        end = len(text) if end < 0 else end
        return text[place:end], end
