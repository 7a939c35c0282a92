"""Requests in words with the formulas that answer them, for generated tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from tinyslm.packs.excel.formulas import CANNOT, with_semicolons
from tinyslm.packs.excel.sheets import Sheet, context
from tinyslm.packs.excel.tables import Column, Table, make_table
from tinyslm.packs.pack import Split

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
BEFORE = ("", "", "", "", "please ", "can you give me ", "i need ", "formula for ", "how do i get ", "show me ", "hi, ")
AFTER = ("", "", "", "", "?", " please", " pls", " thanks", "...", ".", "!")
BEFORE_TEST = ("", "", "could somebody help with ", "looking for ", "my boss wants ")
AFTER_TEST = ("", "", " asap", " :)", " - how?")
TYPOS = 0.15
"""The share of requests with a mistyped word."""
SEMICOLONS, YEAR_2016 = 0.12, 0.06
"""Shares of requests for a locale with `;`, and for Excel 2016."""
NOTES = {"semicolons": "separator ;", "2016": "Excel 2016"}
ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}
_SLOT = re.compile(r"\{([a-z]+)((?:\.[a-z]+)*)\}")


@dataclass(frozen=True)
class Intent:
    """Something that people ask of a table: the formula with slots, ways to ask, and ways that are only tested.

    flags: "fill" (for each row), "new" (needs more than Excel 2016), "old" (for Excel 2016), "left" (u left of n).
    """

    formula: str
    asked: Mapping[Split, Sequence[str]]
    flags: frozenset[str]

    @property
    def slots(self) -> set[str]:
        """The names of its slots."""
        return {found[1] for text in (self.formula, *self.asked["train"]) for found in _SLOT.finditer(text)}


@lru_cache
def intents() -> Sequence[Intent]:
    """Those of `intents.txt`."""
    found: list[tuple[str, list[str], list[str], frozenset[str]]] = []
    for line in (Path(__file__).parent / "intents.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("="):
            words = line.split(" ")
            flags = frozenset(word for word in words[1:] if word in ("fill", "new", "old", "left"))
            while words[-1] in flags:
                words.pop()
            formula = " ".join(words)
            found.append((CANNOT if formula == f"={CANNOT}" else formula, [], [], flags))
        elif line.startswith("- "):
            found[-1][1].append(line[2:])
        elif line.startswith("? "):
            found[-1][2].append(line[2:])
    return [Intent(formula, {"train": train, "test": test}, flags) for formula, train, test, flags in found]


@dataclass(frozen=True)
class Request:
    """A request about a table, and the formula that answers it, in the spelling of its mode."""

    table: Table
    text: str
    formula: str
    fill: bool
    mode: str

    def fields(self) -> dict[str, Any]:
        """The fields of a row that the grader reads."""
        mode = {"mode": self.mode} if self.mode else {}
        return {"sheet": self.table.sheet.json(), "answer": self.formula, "fill": self.fill, **mode}


def question(sheet: Sheet, text: str, mode: str = "") -> str:
    """What the user asks: the sheet as a model reads it, the mode, and the request."""
    note = f"\n{NOTES[mode]}" if mode else ""
    return f"{context(sheet)}{note}\n\n{text}"


def make_request(random: Random, split: Split, former: Request | None = None) -> Request:
    """A request about a new table, or about that of a former request, in its mode."""
    while True:
        table = former.table if former else make_table(random, split)
        drawn = random.random()
        mode = "2016" if drawn < YEAR_2016 else "semicolons" if drawn < YEAR_2016 + SEMICOLONS else ""
        mode = former.mode if former else mode
        for _ in range(8):  # an intent may need columns that the table lacks
            intent = random.choice(intents())
            if ("old" in intent.flags and mode != "2016") or ("new" in intent.flags and mode == "2016"):
                continue
            if (filled := fill_in(intent, table, random, split)) is not None:
                text, formula = filled
                if mode == "semicolons" and formula != CANNOT:
                    formula = with_semicolons(formula)
                return Request(table, text, formula, "fill" in intent.flags, mode)


def fill_in(intent: Intent, table: Table, random: Random, split: Split) -> tuple[str, str] | None:
    """A way to ask and the formula for a table; `None` if the table lacks what the intent needs."""
    chosen = _columns(intent, table, random)
    if chosen is None:
        return None
    values = _values(intent, table, chosen, random)
    if values is None:
        return None
    last = table.sheet.last
    formula = _SLOT.sub(lambda found: _in_formula(found[1], found[2][1:], chosen, values, last), intent.formula)
    for pattern, better in (
        (r'"(<>|[<>]=?)"&"([^"]*)"', r'"\1\2"'),
        (r'"(<>|[<>]=?)"&(\d[\d.]*)', r'"\1\2"'),
        (r'"\*"&"([^"]*)"&"\*"', r'"*\1*"'),
    ):
        formula = re.sub(pattern, better, formula)
    wording = random.choice(intent.asked[split])
    if random.random() < TYPOS:
        wording = _mistyped(wording, random)
    called = {name: _called(column, table, random) for name, column in chosen.items()}
    text = _SLOT.sub(lambda found: _in_words(found[1], found[2][1:], called, values), wording)
    before, after = (BEFORE, AFTER) if split == "train" else (BEFORE_TEST, AFTER_TEST)
    text = random.choice(before) + text + random.choice(after)
    changed = random.random()
    return (text.lower() if changed < 0.1 else text[:1].upper() + text[1:] if changed < 0.5 else text), formula


def _columns(intent: Intent, table: Table, random: Random) -> dict[str, Column] | None:
    """A column for each slot that is one."""
    slots = intent.slots
    if not slots.isdisjoint({"v", "k", "x", "q", "y"}):  # values need their column
        slots = slots | {{"v": "t", "k": "n", "x": "u", "q": "d", "y": "d"}[one] for one in slots & set("vkxqy")}
    if "w" in slots:
        slots = slots | {"s"}
    chosen: dict[str, Column] = {}
    for slot in sorted(slots & set("nmtsudebz")):
        role = {"m": "n", "s": "t"}.get(slot, slot)
        fitting = [one for one in table.columns if one.role == role and one not in chosen.values()]
        if not fitting:
            return None
        chosen[slot] = random.choice(fitting)
    if "left" in intent.flags and chosen["u"].index > chosen["n"].index:
        return None
    return chosen


def _values(intent: Intent, table: Table, chosen: Mapping[str, Column], random: Random) -> dict[str, Any] | None:
    """A value for each slot that is one."""
    values: dict[str, Any] = {"missing": random.choice(table.missing).lower()}
    for slot, column in (("v", "t"), ("w", "s"), ("x", "u")):
        if column in chosen:
            cells = table.sheet.column(chosen[column].index)
            texts = sorted({cell.strip() for cell in cells if isinstance(cell, str)})
            if len(texts) < 2:
                return None
            values[slot], values[slot + ".other"] = random.sample(texts, 2)
    if "x" in values:
        words = [word for word in re.split(r"[\s/-]+", values["x"]) if len(word) >= 2]
        values["x.part"] = random.choice(words)[: random.randint(3, 6)].lower()
    if "n" in chosen:
        numbers = sorted(cell for cell in table.sheet.column(chosen["n"].index) if isinstance(cell, int | float))
        if len(numbers) < 3:
            return None
        low, high = (_round(numbers[round(share * (len(numbers) - 1))]) for share in (random.uniform(0.2, 0.5), 0.8))
        values |= {"k": low, "k.more": max(high, _round(low * 1.5), low + 1 if low >= 1 else low + 0.1)}
        values["k.big"] = _round(sum(numbers) * random.uniform(0.6, 1.3))
    if "d" in chosen:
        days = sorted(cell["date"] for cell in table.sheet.column(chosen["d"].index) if isinstance(cell, Mapping))
        if len(days) < 3:
            return None
        values |= {"q": days[len(days) // 3], "q.more": days[-2], "y": int(random.choice(days)[:4])}
    months = "c.month" in " ".join(intent.asked["train"])
    values["c"] = int(values["q"][5:7]) if months and "q" in values else random.randint(2, 5)
    values |= {"c.digits": random.randint(1, 2), "c.days": random.choice((7, 10, 14, 30, 45))}
    values["p"] = random.choice((0.05, 0.1, 0.15, 0.2, 0.25, 0.75, 0.9))
    return values


def _round(number: float) -> float:
    """A number as people name it: two significant digits."""
    rounded = float(f"{number:.2g}")
    return int(rounded) if rounded.is_integer() else rounded


def _in_formula(name: str, form: str, chosen: Mapping[str, Column], values: Mapping[str, Any], last: int) -> str:
    if name in chosen:
        letter = chosen[name].letter
        forms = {
            "": f"{letter}2:{letter}{last}",
            "cell": f"{letter}2",
            "fixed": f"{letter}$2",
            "abs": f"{letter}$2:{letter}${last}",
            "col": f"{letter}:{letter}",
        }
        if form == "to.n":
            return f"{letter}2:{chosen['n'].letter}{last}"
        if form == "offset":
            return str(chosen["n"].index - chosen["u"].index + 1)
        return forms[form]
    value = values[f"{name}.{form}" if form else name]
    if name == "q":
        year, month, day = map(int, value.split("-"))
        return f"DATE({year},{month},{day})"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _in_words(name: str, form: str, called: Mapping[str, str], values: Mapping[str, Any]) -> str:
    if name in called:
        return called[name]
    if form in ("th", "month", "percent", "iso", "more.iso"):
        value = values[name + ".more" if form == "more.iso" else name]
        if form == "th":
            return ORDINALS.get(value, f"{value}th")
        if form == "month":
            return str(MONTHS[value - 1])
        return f"{value * 100:g}" if form == "percent" else str(value)
    value = values[f"{name}.{form}" if form else name]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _called(column: Column, table: Table, random: Random) -> str:
    """What people call a column: its header or a part of it, in lower case, misspelt, or its letter."""
    drawn = random.random()
    if drawn < 0.12 or [one.header for one in table.columns].count(column.header) > 1:
        return random.choice(("column {}", "col {}", "{}")).format(column.letter)
    name = random.choice(column.names)
    if drawn < 0.55:
        return name.lower()
    if drawn < 0.63 and len(name) > 4:
        return _mistyped(name.lower(), random)
    if drawn < 0.68:
        return f"the {name.lower()} column"
    return name


def _mistyped(text: str, random: Random) -> str:
    """A text with two letters of a word exchanged, or one left out or doubled; slots stay."""
    places = [found.start() for found in re.finditer(r"(?<![{\w.])[A-Za-z]{4,}(?![\w.]*\})", text)]
    if not places:
        return text
    at = random.choice(places) + random.randint(1, 2)
    kind = random.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :] if at + 1 < len(text) else text
    return text[:at] + text[at + 1 :] if kind == 1 else text[:at] + text[at] + text[at:]
