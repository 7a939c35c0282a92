"""Realistic tables from random numbers: columns with headers in five languages, and the mess of real sheets."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Literal

from tinyslm.packs.excel.sheets import Cell, Sheet, letter_of
from tinyslm.packs.pack import Split

Role = Literal["n", "t", "u", "d", "e", "b", "z"]
"""n: numbers; t: categories; u: different texts; d: dates; e: later dates; b: booleans; z: numbers as text."""
ROLES: dict[str, Role] = {
    "num": "n", "price": "n", "share": "n", "cat": "t", "key": "u", "code": "u", "date": "d", "later": "e", "bool": "b",
}  # fmt: skip
ENGLISH = 0.75
"""The share of sheets with English headers; the others share four languages."""
FIRST_DAY, DAYS = date(2024, 1, 1), 1000


@dataclass(frozen=True)
class Kind:
    """A kind of column: headers by language, of which English has several; the kind of its values, and their limits."""

    headers: Sequence[Sequence[str]]
    kind: str
    values: Sequence[str]


@dataclass(frozen=True)
class Column:
    """A column of a sheet: where it is, its header, other names that people have for it, and what it holds."""

    index: int
    header: str
    names: Sequence[str]
    role: Role

    @property
    def letter(self) -> str:
        """Its letters in the sheet."""
        return letter_of(self.index)


@dataclass(frozen=True)
class Table:
    """A sheet and its columns; missing: names of columns that it lacks."""

    sheet: Sheet
    columns: Sequence[Column]
    missing: Sequence[str]


@lru_cache
def _catalogue() -> tuple[dict[str, dict[str, list[str]]], dict[str, list[Kind]]]:
    """Values by split and name, and domains by name."""
    read = tomllib.loads((Path(__file__).parent / "tables.toml").read_text(encoding="utf-8"))
    return {split: read[split] for split in ("train", "test")}, {
        name: [_kind(line) for line in lines] for name, lines in read["domains"].items()
    }


def _kind(line: str) -> Kind:
    names, _, kind = line.partition(";")
    first, *others = [part.strip() for part in names.split("|")]
    word, *values = kind.split()
    return Kind([first.split("/"), *([other] for other in others)], word, values)


def make_table(random: Random, split: Split) -> Table:
    """A table of 6 to 18 rows and 4 to 8 columns."""
    pools, domains = _catalogue()
    name = random.choice(list(domains))
    kinds = list(domains[name])
    wanted = random.randint(4, len(kinds))
    if random.random() < 0.7:  # people keep the usual order more often than not
        chosen = [kinds[at] for at in sorted(random.sample(range(len(kinds)), wanted))]
    else:
        chosen = random.sample(kinds, wanted)
    language = 0 if random.random() < ENGLISH else random.randint(1, 4)
    count = random.randint(6, 18)
    headers: list[str] = []
    columns: list[Column] = []
    values: list[list[Cell]] = []
    dates = [FIRST_DAY + timedelta(days=random.randrange(DAYS)) for _ in range(count)]
    for kind in chosen:
        english = random.choice(kind.headers[0])
        header = english if language == 0 or len(kind.headers) <= language else kind.headers[language][0]
        if header in headers:  # as in real sheets, but rarely
            header = header if random.random() < 0.1 else english
        cells, role = _cells(kind, count, dates, pools[split], random), ROLES[kind.kind]
        if role == "n" and random.random() < 0.05:
            cells, role = [str(cell) for cell in cells], "z"
        names = [header] if language == 0 else [header, english]
        columns.append(Column(len(headers), header, names, role))
        headers.append(header + " " if random.random() < 0.03 else header)
        values.append(cells)
    _mess_up(values, columns, random)
    rows = [list(cells) for cells in zip(*values, strict=True)]
    used = {kind.headers[0][0] for kind in chosen} | set(headers)
    lacking = [
        kind.headers[0][0]
        for other, some in domains.items()
        if other != name
        for kind in some
        if used.isdisjoint(kind.headers[0])
    ]
    return Table(Sheet(headers, rows), columns, lacking)


def _cells(kind: Kind, count: int, dates: Sequence[date], pools: dict[str, list[str]], random: Random) -> list[Any]:
    return CELLS[kind.kind](kind.values, count, dates, pools, random)


def _keys(values: Sequence[str], count: int, pools: dict[str, list[str]], random: Random) -> list[str]:
    """Different texts; once the pool is used up, with numbers."""
    pool = pools[values[0]]
    found = random.sample(pool, min(count, len(pool)))
    return found + [f"{random.choice(pool)} {number}" for number in range(2, count - len(found) + 2)]


def _codes(values: Sequence[str], count: int, random: Random) -> list[str]:
    first = random.randint(100, 900)
    return [f"{values[0]}-{first + 3 * number + random.randint(0, 2)}" for number in range(count)]


def _categories(values: Sequence[str], count: int, pools: dict[str, list[str]], random: Random) -> list[str]:
    pool = pools[values[0]]
    return random.choices(random.sample(pool, min(len(pool), random.randint(3, 5))), k=count)


def _dates(dates: Sequence[date], random: Random, later: int = 0) -> list[Cell]:
    """Dates, sorted or not; or each some days later, at most `later`."""
    if later:
        return [{"date": (day + timedelta(days=random.randint(1, later))).isoformat()} for day in dates]
    return [{"date": day.isoformat()} for day in (sorted(dates) if random.random() < 0.5 else dates)]


CELLS: dict[str, Callable[[Sequence[str], int, Sequence[date], dict[str, list[str]], Random], list[Any]]] = {
    "cat": lambda values, count, _, pools, random: _categories(values, count, pools, random),
    "key": lambda values, count, _, pools, random: _keys(values, count, pools, random),
    "code": lambda values, count, _, pools, random: _codes(values, count, random),
    "date": lambda values, count, dates, pools, random: _dates(dates, random),
    "later": lambda values, count, dates, pools, random: _dates(dates, random, later=60),
    "bool": lambda values, count, dates, pools, random: [random.random() < 0.5 for _ in range(count)],
    "share": lambda values, count, dates, pools, random: [round(random.uniform(0.05, 0.9), 2) for _ in range(count)],
    "price": lambda values, count, dates, pools, random: [
        round(random.uniform(*map(int, values)), 2) for _ in range(count)
    ],
    "num": lambda values, count, dates, pools, random: [random.randint(*map(int, values)) for _ in range(count)],
}
"""The cells of a column by its kind, from the values of the kind, the number of rows, the table's dates, and pools."""


def _mess_up(values: list[list[Cell]], columns: Sequence[Column], random: Random) -> None:
    """Blanks in some columns, and spaces after some texts."""
    for cells, column in zip(values, columns, strict=True):
        if column.role in "nt" and random.random() < 0.15:
            for at in random.sample(range(len(cells)), random.randint(1, 2)):
                cells[at] = None
        elif column.role == "t" and random.random() < 0.05:
            at = random.randrange(len(cells))
            cells[at] = f"{cells[at]} "
