"""Records of delimited text (CSV, TSV): lines in, cells out, where every quote is accounted for.

Python's `csv` module extends a cell whose quote is never closed to the next quote, or to the end of the file. Here such
a record is reported as a problem, and reading resumes in the line after the one in which it began.
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
"""A record of more than `limit / LINE` lines (and of more than 1,000) counts as not closed."""
MOST_CELLS = 1 << 17
MOST_AGAIN = 64  # most times that lines are read again, on average; in a sound file, hardly any line is


_TWO_QUOTATIONS = re.compile(r'[^"]*[^"\s]"\s.*\s"[^"\s][^"]*')
"""Matches what is between the first and the last quote of `"a" and "b"`: these quotes are part of the cell."""


class Line(NamedTuple):
    """A physical line: its number from 1 on, its text, how it ends, and whether it was too long to be kept."""

    number: int
    text: str
    end: str
    long: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of a row that begins in `line`. problem: why it has no cells, or not one for each column."""

    line: int
    cells: list[str] = field(default_factory=list)
    problem: str = ""


class Lines:
    """Lines that can be put back: after a record that is not closed, reading resumes at its second line."""

    def __init__(self, lines: Iterator[Line], name: str = "") -> None:
        """name: of the file, for errors."""
        self._lines, self._name = lines, name
        self._back: deque[Line] = deque()
        self._again = -MOST_AGAIN  # lines put back in excess of the limit; negative below it

    def next(self) -> Line | None:
        """The next one; `None` at the end."""
        if self._back:
            return self._back.popleft()
        self._again -= MOST_AGAIN
        return next(self._lines, None)

    def put_back(self, lines: list[Line]) -> None:
        """Make `lines` the next ones. Raises `TinyslmError` if that happens too often for the lines read so far."""
        self._back.extendleft(reversed(lines))
        self._again += len(lines)
        if self._again > 0:
            raise TinyslmError(
                f"{self._name} has too many quotes that are opened but not closed, up to line {lines[0].number}.",
                "Double each quote within a cell, or save the table without quotes, separated by tabs, as .tsv.",
            )


def read_lines(stream: BinaryIO, limit: int) -> Iterator[Line]:
    r"""The lines of a stream of UTF-8, ended by `\n`, `\r\n` or `\r`; longer than `limit` characters: without text.

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
    """How cells are separated and quoted. delimiter: one character; empty: a line is one cell."""

    def __init__(self, delimiter: str, *, quoted: bool = True) -> None:
        self.delimiter = delimiter or "\0"
        self.quoted = quoted
        space = "" if delimiter == " " else " *+"
        closed = f"{space}(?={re.escape(self.delimiter)}|\\Z)"
        self._cell = re.compile(f'{space}"([^"]*+(?:""[^"]*+)*+)"{closed}')
        self._careless = re.compile(f'{space}"(.*?)"{closed}')  # quotes within it are not doubled: `"a "b" c"`
        self._opening = re.compile(f'{space}"')
        self._inside = re.compile('[^"]*+(?:""[^"]*+)*+')
        self._closed = re.compile(closed)

    def records(self, lines: Lines, limit: int) -> Iterator[Record]:
        """All records; empty lines are passed over. A record of several lines has at most about `limit` characters."""
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
            if found := self._cell.match(text, place):
                cells.append(found[1].replace('""', '"'))
                place = found.end()
            elif (opening := self._opening.match(text, place)) and self._stays_open(text, opening.end()):
                rest = self._close(text[opening.end() :] + (taken[-1] if taken else line).end, lines, taken, limit)
                if rest is None:
                    lines.put_back(taken)
                    return Record(line.number, problem=UNCLOSED)
                cell, place = rest
                cells.append(cell)
                text = taken[-1].text
            else:
                found = self._careless.match(text, place) if careless and opening else None
                if found and self.delimiter not in found[1] and _TWO_QUOTATIONS.fullmatch(found[1]):
                    found = opening = None
                # If this cell has no such end, no later one has.
                careless = careless and not (opening and not found)
                cell, place = (found[1], found.end()) if found else self._unquoted(text, place)
                if taken and '"' in cell:  # what seemed to close the quote opens another one
                    lines.put_back(taken)
                    return Record(line.number, problem=UNCLOSED)
                cells.append(cell)
            if place == len(text):
                return Record(line.number, cells)
            place += 1

    def _stays_open(self, text: str, start: int) -> bool:
        found = self._inside.match(text, start)
        return found is not None and found.end() == len(text)

    def _close(self, begun: str, lines: Lines, taken: list[Line], limit: int) -> tuple[str, int] | None:
        """The cell that begins with `begun` and is closed in a further line, and where in that line it ends.

        `None`: nothing closes it within the limits, or the closing quote is followed by other text.
        """
        parts, size = [begun], len(begun)
        while (line := lines.next()) is not None:
            taken.append(line)
            size += len(line.text) + len(line.end)
            if line.long or size > limit or len(taken) > max(1000, limit // LINE):
                return None
            found = self._inside.match(line.text)
            end = found.end() if found else 0
            parts.append(line.text[:end])
            if end < len(line.text):
                closed = self._closed.match(line.text, end + 1)
                return ("".join(parts).replace('""', '"'), closed.end()) if closed else None
            parts.append(line.end)
        return None

    def _unquoted(self, text: str, place: int) -> tuple[str, int]:
        """A cell up to the next delimiter: `5" pipe`, `"So" he said`."""
        end = text.find(self.delimiter, place)
        end = len(text) if end < 0 else end
        return text[place:end], end
