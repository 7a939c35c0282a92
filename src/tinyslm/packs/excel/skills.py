"""The three kinds of question: write a formula, repair one, explain one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from tinyslm.packs.excel.formulas import CANNOT, functions_of, with_commas
from tinyslm.packs.excel.grading import ask_engine, grade_formula, grade_value
from tinyslm.packs.excel.grammar import formula_grammar
from tinyslm.packs.excel.requests import Request, make_request, question
from tinyslm.packs.excel.sheets import Sheet, context
from tinyslm.packs.pack import Row, Skill, Split

COMPLAINTS: Mapping[str, Mapping[Split, tuple[str, ...]]] = {
    "name": {
        "train": ("why #NAME?", "i get #NAME?", "#NAME? error, what's wrong", "fix the #NAME? please"),
        "test": ("all it shows is #NAME?", "excel answers #NAME? - help"),
    },
    "short": {
        "train": ("it misses the last rows", "the result is too small, not all rows are in it", "range too short?"),
        "test": ("some rows at the bottom are left out",),
    },
    "anchor": {
        "train": ("wrong when i copy it down", "first row is right, the ones below are not", "breaks when filled down"),
        "test": ("dragging it down gives nonsense",),
    },
    "refused": {
        "train": ("excel says there is a problem with this formula", "it won't accept this", "syntax error?"),
        "test": ("i can't enter this, it complains",),
    },
    "zero": {
        "train": ("gives 0 but there are numbers", "why is the result 0?"),
        "test": ("nothing but a zero comes out",),
    },
}


TURNS = (1, 4, 8, 8)
"""How many questions about the same sheet a conversation to learn from has."""


def make_formula(random: Random, split: Split) -> Row:
    """Requests for formulas."""

    def ask(former: Request | None) -> tuple[str, Request]:
        made = make_request(random, split, former)
        return made.text, made

    return _conversation(ask, random, split)


def make_repair(random: Random, split: Split) -> Row:
    """Broken formulas and complaints about them; answered by the right ones."""
    return _conversation(lambda former: _broken(random, split, former), random, split)


def _broken(random: Random, split: Split, former: Request | None) -> tuple[str, Request]:
    """A broken formula with a complaint about it, and the request that it was to answer."""
    while True:
        made = make_request(random, split, former)
        if made.formula == CANNOT or made.mode == "2016":
            continue
        kind, breaker = random.choice(BREAKERS)
        broken = breaker(made.formula, random)
        if broken is None or broken == made.formula or (kind == "anchor" and not made.fill):
            continue
        wanted = random.choice(("{complaint}", "{complaint}. it should be: {request}", "{request}. {complaint}"))
        text = wanted.format(complaint=random.choice(COMPLAINTS[kind][split]), request=made.text)
        return f"{broken}\n{text}", made


def make_explain(random: Random, split: Split) -> Row:
    """A formula to explain with its value, on a small table that is shown whole."""
    while True:
        made = make_request(random, split)
        simple = not made.mode and not made.fill and made.formula != CANNOT and len(made.table.sheet.rows) <= 9
        if not simple or functions_of(made.formula) & {"FILTER", "SORT", "SORTBY", "UNIQUE", "TAKE", "CORREL"}:
            continue
        row = _explained(made.table.sheet, made.formula, f"what does {made.formula} give and why?")
        said = made.text.rstrip("?.! ")
        answer = f"It answers: {said}.\nvalue: {row['values'][0]}"
        return row | {"messages": [*row["messages"], {"role": "assistant", "content": answer}]}


def convert_formula(row: Mapping[str, Any]) -> Row | None:
    """A row with "request", "answer" and a "table" or "sheet"; or an instruction and its formula, without a sheet."""
    found = {str(name).casefold(): value for name, value in row.items()}
    request, answer = found.get("request", found.get("instruction")), found.get("answer", found.get("formula"))
    if row.get("skill", "formula") != "formula" or not isinstance(request, str) or not isinstance(answer, str):
        return None
    if not (answer.startswith("=") or answer == CANNOT):
        return None
    return _converted(row, request, answer)


def convert_repair(row: Mapping[str, Any]) -> Row | None:
    """A row with "request", the broken "formula" and the right "answer"."""
    if row.get("skill") != "repair" or not all(
        isinstance(row.get(one), str) for one in ("request", "formula", "answer")
    ):
        return None
    return _converted(row, f"{row['formula']}\n{row['request']}", row["answer"])


def convert_explain(row: Mapping[str, Any]) -> Row | None:
    """A row with "request" and the "formula" to explain."""
    if row.get("skill") != "explain" or not all(isinstance(row.get(one), str) for one in ("request", "formula")):
        return None
    mode = str(row.get("mode", ""))
    formula = with_commas(row["formula"]) if mode == "semicolons" else row["formula"]
    made = _explained(_sheet_of(row), formula, f"{row['formula']}\n{row['request']}")
    answer = {"role": "assistant", "content": f"value: {made['values'][0]}"}
    return made | {"messages": [*made["messages"], answer]}


def _converted(row: Mapping[str, Any], text: str, answer: str) -> Row:
    sheet, mode = _sheet_of(row), str(row.get("mode", ""))
    asked = question(sheet, text, mode)
    fields = {"sheet": sheet.json(), "answer": answer, "fill": bool(row.get("fill"))} | ({"mode": mode} if mode else {})
    return {"messages": _messages(asked, answer), **fields}


def _conversation(ask: Callable[[Request | None], tuple[str, Request]], random: Random, split: Split) -> Row:
    """Questions about one sheet with their answers: several to learn from, as the sheet takes most tokens; one to test.

    ask: makes a question, about the sheet of a former request if there is one.
    """
    messages: list[dict[str, str]] = []
    made = None
    for _ in range(random.choice(TURNS) if split == "train" else 1):
        text, made = ask(made)
        messages += _messages(text if messages else question(made.table.sheet, text, made.mode), made.formula)
    assert made is not None
    return {"messages": messages, **made.fields()}


def _messages(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _explained(sheet: Sheet, formula: str, text: str) -> Row:
    asked = f"{context(sheet, whole=True)}\n\n{text}"
    values = ask_engine({"do": "value", "sheet": sheet.json(), "formula": formula, "altered": 2})["values"]
    return {"messages": [{"role": "user", "content": asked}], "answer": values[0], "values": values}


@lru_cache
def _tables() -> Mapping[str, Sheet]:
    """The sheets of the hand-written requests."""
    lines = (Path(__file__).parent / "tables.jsonl").read_text(encoding="utf-8").splitlines()
    return {one["name"]: Sheet.from_json(one) for one in map(json.loads, lines)}


def _sheet_of(row: Mapping[str, Any]) -> Sheet:
    if isinstance(row.get("sheet"), Mapping):
        return Sheet.from_json(row["sheet"])
    if row.get("table") in _tables():
        return _tables()[row["table"]]
    random = Random("no sheet")  # rows without one are graded on numbers
    return Sheet(
        [f"Value {letter}" for letter in "ABCDEF"], [[random.randint(1, 99) for _ in "ABCDEF"] for _ in range(20)]
    )


def _misspelt(formula: str, random: Random) -> str | None:
    names = [one for one in functions_of(formula) if len(one) > 3]
    if not names:
        return None
    name = random.choice(sorted(names))
    at = random.randrange(1, len(name) - 1)
    return formula.replace(name + "(", name[:at] + random.choice(("", name[at] * 2)) + name[at + 1 :] + "(", 1)


def _unquoted(formula: str, _: Random) -> str | None:
    found = re.search(r'"([A-Za-z][\w ]*)"', formula)
    return formula[: found.start()] + found[1] + formula[found.end() :] if found else None


def _shortened(formula: str, random: Random) -> str | None:
    less = random.randint(1, 3)

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{max(3, int(found[2]) - less)}"

    return re.sub(r"(\b[A-Z]+\d+:[A-Z]+)(\d+)", shorter, formula)


def _unanchored(formula: str, _: Random) -> str | None:
    return formula.replace("$", "") if "$" in formula else None


def _unclosed(formula: str, _: Random) -> str | None:
    return formula[:-1] if formula.endswith(")") else None


def _as_text(formula: str, _: Random) -> str | None:
    found = re.fullmatch(r"=SUMPRODUCT\((\w+:\w+)\*1\)", formula)
    return f"=SUM({found[1]})" if found else None


BREAKERS: tuple[tuple[str, Callable[[str, Random], str | None]], ...] = (
    ("name", _misspelt),
    ("name", _unquoted),
    ("short", _shortened),
    ("anchor", _unanchored),
    ("refused", _unclosed),
    ("zero", _as_text),
)

FORMULA = Skill(
    "formula",
    "a request and a table to a formula that computes",
    make_formula,
    grade_formula,
    convert_formula,
    max_tokens=96,
    constraint=formula_grammar,
    weight=8,
)
REPAIR = Skill(
    "repair",
    "a broken formula and a complaint to the formula that works",
    make_repair,
    grade_formula,
    convert_repair,
    max_tokens=96,
    constraint=formula_grammar,
    weight=1,
)
EXPLAIN = Skill("explain", "what a formula gives on a table", make_explain, grade_value, convert_explain, max_tokens=96)
