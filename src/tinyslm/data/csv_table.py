"""Read tables of delimited text; detect dialect and columns from the first rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from itertools import islice
from typing import BinaryIO

from tinyslm.core.errors import TinyslmError
from tinyslm.data.csv_records import LONG, UNCLOSED, Dialect, Line, Lines, Record, read_lines

UNEVEN = "uneven_rows"
SHORT = "short_rows"
PROBLEMS = {
    UNCLOSED: "it has a quote that is opened but not closed",
    LONG: "it is too long",
    UNEVEN: "it has more cells than the header",
    SHORT: "it has fewer cells than the header",
}
"""Descriptions of problems, to follow a row or line in a message."""

_SAMPLE_LINES = 300  # from which the dialect is detected
_SAMPLE_SIZE = 1 << 18  # characters
_MOST_TITLES = 8  # lines above a header
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*(""[^"]*)*"')


class Table:
    """A table of UTF-8 text; iterate over its rows once.

    It detects the delimiters `,`, `;`, tab, `|` and (in files from R) space; Excel's line `sep=;`; names and cells of
    several lines; quotes that are doubled, or not doubled but unambiguous; trailing delimiters; a header one column
    shorter than the rows, which R writes for rows with names; and titles above the header.

    Attributes: `columns`: names, with white space collapsed; empty for the column of row names. `named_rows`: whether
    the header has no name for the column of row names. `titles`: number of skipped lines above the header. `sample`:
    the first rows without problems.
    """

    def __init__(
        self, stream: BinaryIO, name: str, *, tabs: bool = False, limit: int, usual: Set[str] = frozenset()
    ) -> None:
        """tabs: for `.tsv` files, whose quotes are text unless all of them enclose cells. limit: characters per record.

        usual: names in lower case that identify the header; lines above it with fewer cells are titles. Raises
        `TinyslmError` when the header cannot be read, `UnicodeDecodeError` when the stream is not UTF-8.
        """
        self._limit = limit
        self._lines = Lines(read_lines(stream, limit), name)
        head, cut = self._head()
        delimiter = self._delimiter_line(head)
        self.titles = _titles(head, delimiter, usual, cut=cut, tabs=tabs) if usual else 0
        del head[: self.titles]
        self._dialect, self.named_rows = _dialect(head, delimiter, cut=cut, tabs=tabs)
        first = _records(head, self._dialect, cut=cut)
        self._lines.put_back(head)
        self._records = self._dialect.records(self._lines, limit)
        header = next(self._records, Record(1))
        if header.problem:
            raise TinyslmError(
                f"The header of {name} in line {header.line} cannot be read: {PROBLEMS[header.problem]}.",
                "Correct that line.",
            )
        names = [" ".join(cell.split()) for cell in header.cells]
        self.columns = ["", *names] if self.named_rows else names
        self.sample = [row for row in map(self._fitted, first[1:]) if not row.problem]

    def __iter__(self) -> Iterator[Record]:
        """Every row, with a cell for each column; `SHORT` rows have fewer cells, rows with other problems none."""
        return map(self._fitted, self._records)

    def _head(self) -> tuple[list[Line], bool]:
        """The first lines that are not empty, and whether there are more."""
        head: list[Line] = []
        size = 0
        while len(head) < _SAMPLE_LINES and size < _SAMPLE_SIZE:
            line = self._lines.next()
            if line is None:
                return head, False
            if head or line.text or line.long:
                head.append(line)
                size += len(line.text)
        return head, True

    def _delimiter_line(self, head: list[Line]) -> str:
        """Remove Excel's first line, `sep=;`, and return its delimiter; "" without such a line."""
        match = _SEP.fullmatch(head[0].text) if head else None
        if match:
            del head[0]
        return match[1] if match else ""

    def _fitted(self, row: Record) -> Record:
        wanted, cells = len(self.columns), row.cells
        if row.problem or len(cells) == wanted:
            return row
        if len(cells) > wanted:
            return Record(row.line, problem=UNEVEN) if any(cells[wanted:]) else Record(row.line, cells[:wanted])
        if any(self.columns[len(cells) :]):
            return Record(row.line, cells, SHORT)
        return Record(row.line, [*cells, *[""] * (wanted - len(cells))])


def _records(head: list[Line], dialect: Dialect, *, cut: bool) -> list[Record]:
    """The records in the first lines. cut: more lines follow, so the last record may be incomplete and is left out."""
    records = list(dialect.records(Lines(iter(head)), sum(len(line.text) + 2 for line in head)))
    if cut and len(records) > 1:
        last = next((at for at, record in enumerate(records) if record.problem == UNCLOSED), len(records))
        del records[max(1, min(last, len(records) - 1)) :]
    return records


def _titles(head: list[Line], delimiter: str, usual: Set[str], *, cut: bool, tabs: bool) -> int:
    """The number of lines above a header with a usual name; 0 if the first lines contain no such header."""
    for number in range(min(_MOST_TITLES, len(head) - 1) + 1):
        dialect, _ = _dialect(head[number:], delimiter, cut=cut, tabs=tabs)
        header = _filled(head[number:], dialect)
        if not usual.isdisjoint(" ".join(cell.lower().split()) for cell in header):
            above = (_filled([line], dialect) for line in head[:number])
            return number if all(len(cells) < len(header) for cells in above) else 0
    return 0


def _filled(lines: list[Line], dialect: Dialect) -> list[str]:
    """The cells of the first record that are not empty."""
    first = next(dialect.records(Lines(iter(lines)), _SAMPLE_SIZE), Record(0))
    return [cell for cell in first.cells if cell.strip()]


def _dialect(head: list[Line], delimiter: str, *, cut: bool, tabs: bool) -> tuple[Dialect, bool]:
    """The dialect of a table, and whether its rows have names without a column in the header."""
    if tabs and not delimiter and head and "\t" in head[0].text:
        delimiter = "\t"
    best, best_key, names = Dialect(delimiter), (-1.0, 0), False
    broken: Dialect | None = None  # a dialect in which the header cannot be read
    for candidate in delimiter or ",;\t|":
        dialect = Dialect(candidate, quoted=not (tabs and candidate == "\t") or _quotes_fit(head, cut=cut))
        records = _records(head, dialect, cut=cut)
        width, share, named = _fit(records, head)
        if records and records[0].problem and candidate in head[0].text:
            broken = broken or dialect
        if (width > 1 or named) and (key := (round(share, 1), width)) > best_key:
            best, best_key, names = dialect, key, named
    if best_key[0] < 0 and broken:
        return broken, False
    if best_key[0] < 0 and not delimiter and head:
        spaced = Dialect(" ")
        _, _, names = _fit(_records(head, spaced, cut=cut), head)
        if names and _QUOTED.match(head[0].text):
            return spaced, True
        return Dialect(""), False
    return best, names


def _fit(records: list[Record], head: list[Line]) -> tuple[int, float, bool]:
    """The number of columns in the header, the share of rows with as many cells, and whether rows have names.

    A row's name is an extra first cell: names are all different, and numbers or quoted.
    """
    if not records or records[0].problem:
        return 0, 0.0, False
    width = len(_trimmed(records[0].cells))
    rows = [row for row in islice(records, 1, None) if not row.problem]
    if not rows:
        return width, float(len(records) == 1), False
    fitting = sum(len(row.cells) == width or len(_trimmed(row.cells)) <= width <= len(row.cells) for row in rows)
    first = {line.number: line.text[:1] for line in head}
    named = (
        all(len(row.cells) == width + 1 for row in rows)
        and any(row.cells[-1] for row in rows)
        and len({row.cells[0] for row in rows}) == len(rows)
        and all(row.cells[0].isdigit() or first[row.line] == '"' for row in rows)
        and not any(cell.startswith(" ") for row in rows for cell in row.cells)
    )
    return width, 1.0 if named else fitting / (len(records) - 1), named


def _trimmed(cells: list[str]) -> list[str]:
    """The cells without empty ones at the end."""
    end = len(cells)
    while end > 1 and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _quotes_fit(head: list[Line], *, cut: bool) -> bool:
    """Whether quotes in tab-separated lines enclose cells, instead of being part of them."""
    quoting = [cell for line in head for cell in line.text.split("\t") if cell.startswith('"')]
    plain = _fit(_records(head, Dialect("\t", quoted=False), cut=cut), head)[1]
    if plain == 1.0:
        return bool(quoting) and all(map(_QUOTED.fullmatch, quoting))
    return _fit(_records(head, Dialect("\t"), cut=cut), head)[1] > plain
