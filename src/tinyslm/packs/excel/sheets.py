"""Sheets: headers in row 1 from column A, data from row 2. How a model reads them, and how grading alters them.

A cell is `None`, a number, a boolean, a text, or a date as {"date": "2026-03-14"}, so that sheets are JSON values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any, Literal

Cell = None | bool | int | float | str | Mapping[str, str]
Kind = Literal["number", "date", "text", "boolean", "empty"]

EPOCH = date(1899, 12, 30)
"""Day 0 of spreadsheets' dates (valid from March 1900)."""
SHOWN, SHOWN_KEYS = 3, 2
"""Different texts of a column that a model sees: of a few that repeat, and of many that are all different."""
LONGEST_VALUE = 40
_NUMBER_TEXT = re.compile(r"-?\d+(?:[.,]\d+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Sheet:
    """A table of a spreadsheet. `rows` are below the headers; each has as many cells as there are headers."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sheet:
        """The sheet of a row's field. Raises `ValueError` for other values."""
        headers, rows = value.get("headers"), value.get("rows")
        if not isinstance(headers, list) or not isinstance(rows, list):
            raise ValueError("a sheet has headers and rows")
        if any(not isinstance(row, list) or len(row) != len(headers) for row in rows):
            raise ValueError("each row of a sheet has as many cells as there are headers")
        return cls([str(one) for one in headers], rows)

    def json(self) -> dict[str, Any]:
        """The sheet as a JSON value."""
        return {"headers": list(self.headers), "rows": [list(row) for row in self.rows]}

    @property
    def last(self) -> int:
        """The number of the last row with data."""
        return len(self.rows) + 1

    def column(self, index: int) -> list[Cell]:
        """The cells of a column, without its header."""
        return [row[index] for row in self.rows]

    def kind(self, index: int) -> Kind:
        """What most cells of a column are."""
        kinds = [kind_of(cell) for cell in self.column(index) if cell is not None]
        return max(set(kinds), key=kinds.count) if kinds else "empty"


def cell_of(text: str) -> Cell:
    """A text as spreadsheets read it: a number, a date, a boolean, nothing, or a text.

    `browser/question.js` reads cells in the same way, and a test compares them.
    """
    bare = text.strip()
    if not bare:
        return None
    if _NUMBER.fullmatch(bare) and math.isfinite(number := float(bare)):
        return int(bare) if _WHOLE.fullmatch(bare) else number + 0  # there is no negative zero
    if _DATE.fullmatch(text):
        try:
            return {"date": date.fromisoformat(text).isoformat()}
        except ValueError:
            return text
    return {"TRUE": True, "FALSE": False}.get(text.upper(), text)


def sheet_of(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Sheet:
    """The sheet of cells as a person types them; rows that are too short are filled up with blanks."""
    return Sheet(headers, [[cell_of(text) for text in (*row, *[""] * len(headers))][: len(headers)] for row in rows])


def kind_of(cell: Cell) -> Kind:
    """The kind of one cell."""
    if isinstance(cell, bool):
        return "boolean"
    if isinstance(cell, int | float):
        return "number"
    if isinstance(cell, Mapping):
        return "date"
    return "text" if cell is not None else "empty"


def letter_of(index: int) -> str:
    """The letters of a column: A for 0, AA for 26."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def serial_of(text: str) -> int:
    """The number by which spreadsheets know a date, such as 46095 for 2026-03-14."""
    return (date.fromisoformat(text) - EPOCH).days


def plain(cell: Cell) -> str:
    """A cell as a model reads it: a text that looks like a number begins with an apostrophe, as in spreadsheets."""
    if cell is None:
        return "(blank)"
    if isinstance(cell, Mapping):
        return cell["date"]
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, str):
        text = cell if len(cell) <= LONGEST_VALUE else cell[: LONGEST_VALUE - 1] + "…"
        return "'" + text if _NUMBER_TEXT.fullmatch(text.strip()) else text.replace("\n", " ")
    return f"{cell:.10g}"


def context(sheet: Sheet, *, whole: bool = False) -> str:
    """The sheet as a model reads it: a line for each column, and the last row.

    The letter of a column follows its header: to copy what followed the same word before comes naturally to models.
    A line shows the first values of a column: of texts a few different ones, which requests may name, and otherwise
    one, as tokens are what time is spent on; of dates only that they are dates. whole: all values.
    """
    lines = [
        f"{' '.join(header.split()) or '(no header)'} {letter_of(index)}: "
        + " | ".join(map(plain, sheet.column(index)) if whole else _first(sheet.column(index)))
        for index, header in enumerate(sheet.headers)
    ]
    return "\n".join([*lines, f"rows 2 to {sheet.last}"])


def _first(cells: Sequence[Cell]) -> list[str]:
    """The first values of a column as a model reads them; if there are blanks, one of them."""
    filled = [cell for cell in cells if cell is not None]
    texts = list(dict.fromkeys(cell for cell in filled if isinstance(cell, str)))
    words = [text for text in texts if not _NUMBER_TEXT.fullmatch(text.strip())]
    shown = words[: SHOWN if len(texts) < len(filled) else SHOWN_KEYS] or texts[:1] or filled[:1]
    found = ["date" if isinstance(cell, Mapping) else plain(cell) for cell in shown]
    return found if len(filled) == len(cells) else [*found, plain(None)]


def altered(sheet: Sheet, seed: int) -> Sheet:
    """Another sheet with the same columns: rows in another order, other numbers and dates, texts exchanged.

    Columns of texts that are all different stay so, as they may be keys.
    """
    random = Random(f"altered {seed}")
    rows = [list(row) for row in sheet.rows]
    random.shuffle(rows)
    for index in range(len(sheet.headers)):
        cells = [row[index] for row in rows]
        texts = [cell for cell in cells if isinstance(cell, str)]
        keys = len(set(texts)) == len(texts)
        for row, cell in zip(rows, cells, strict=True):
            row[index] = _altered_cell(cell, texts, random, keys=keys)
    return Sheet(sheet.headers, rows)


def _altered_cell(cell: Cell, texts: Sequence[str], random: Random, *, keys: bool) -> Cell:
    if isinstance(cell, bool):
        return random.random() < 0.5
    if isinstance(cell, int | float):
        changed = cell * random.uniform(0.5, 1.7)
        return round(changed) if isinstance(cell, int) else round(changed, 2)
    if isinstance(cell, Mapping):
        return {"date": (date.fromisoformat(cell["date"]) + timedelta(days=random.randint(-90, 90))).isoformat()}
    if isinstance(cell, str) and re.fullmatch(r"\d+", cell.strip()) and int(cell) < 10**9:
        return cell.replace(cell.strip(), str(round(int(cell) * random.uniform(0.5, 1.7))))
    if isinstance(cell, str) and not keys and random.random() < 0.3:
        return random.choice(texts)
    return cell
