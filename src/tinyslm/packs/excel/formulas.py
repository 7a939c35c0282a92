"""Formulas as text: their tokens, the functions that exist, other spellings, and how two formulas differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

CANNOT = "CANNOT"
"""The answer to a request that the sheet cannot answer."""
LONGEST = 1_000
"""Characters of a formula."""
NEW_FUNCTIONS = frozenset(
    [
        "BYCOL",
        "BYROW",
        "CHOOSECOLS",
        "CHOOSEROWS",
        "CONCAT",
        "DROP",
        "EXPAND",
        "FILTER",
        "GROUPBY",
        "HSTACK",
        "IFS",
        "LAMBDA",
        "LET",
        "MAKEARRAY",
        "MAP",
        "MAXIFS",
        "MINIFS",
        "PIVOTBY",
        "RANDARRAY",
        "REDUCE",
        "REGEXEXTRACT",
        "REGEXREPLACE",
        "REGEXTEST",
        "SCAN",
        "SEQUENCE",
        "SORT",
        "SORTBY",
        "SWITCH",
        "TAKE",
        "TEXTAFTER",
        "TEXTBEFORE",
        "TEXTJOIN",
        "TEXTSPLIT",
        "TOCOL",
        "TOROW",
        "UNIQUE",
        "VSTACK",
        "WRAPCOLS",
        "WRAPROWS",
        "XLOOKUP",
        "XMATCH",
    ]
)
"""Functions that a perpetual licence of Excel 2016 lacks."""
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"]|"")*")|(?P<function>[A-Za-z_][\w.]*)\(|(?P<columns>\$?[A-Za-z]{1,3}:\$?[A-Za-z]{1,3}\b)
    |(?P<cell>\$?[A-Za-z]{1,3}\$?\d+\b)|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?%?)|(?P<word>[A-Za-z_][\w.]*)
    |(?P<sign><>|<=|>=|[-+*/^&=<>:,;(){}%@\#!$'])""",
    re.VERBOSE,
)


def tokens_of(formula: str) -> list[tuple[str, str]]:
    """The kind and the text of each token: text, function, columns, cell, number, word, sign."""
    return [
        (str(found.lastgroup), found[str(found.lastgroup)])
        for found in _TOKEN.finditer(formula.lstrip().removeprefix("="))
    ]


def formula_in(answer: str) -> str:
    """The formula in an answer: its first line that begins with "=", or `CANNOT`; "" without one."""
    for line in answer.strip().splitlines():
        text = line.strip().strip("`").strip()
        if text.startswith("=") and len(text) > 1:
            return text
        if text.rstrip(".!").upper() == CANNOT:
            return CANNOT
    return ""


def with_commas(formula: str) -> str:
    """A formula of a locale with `;` between arguments and a decimal comma, as spreadsheets store it."""
    parts = re.split(r'("(?:[^"]|"")*")', formula)
    parts[::2] = [re.sub(r"(?<=\d),(?=\d)", ".", part).replace(";", ",") for part in parts[::2]]
    return "".join(parts)


def with_semicolons(formula: str) -> str:
    """The opposite of `with_commas`."""
    parts = re.split(r'("(?:[^"]|"")*")', formula)
    parts[::2] = [re.sub(r"(?<=\d)\.(?=\d)", "\0", part.replace(",", ";")).replace("\0", ",") for part in parts[::2]]
    return "".join(parts)


def functions_of(formula: str) -> set[str]:
    """The names of the functions that a formula calls."""
    return {text.upper().removeprefix("_XLFN.") for kind, text in tokens_of(formula) if kind == "function"}


@lru_cache
def known_functions() -> Mapping[str, tuple[int, int]]:
    """The functions that formulas may call, each with its least and most arguments."""
    found: dict[str, tuple[int, int]] = {}
    for line in (Path(__file__).parent / "functions.txt").read_text(encoding="utf-8").splitlines():
        least, most, *names = line.split()
        found |= {name: (int(least), int(most)) for name in names}
    return found


def differences(reference: str, answer: str) -> dict[str, float]:
    """The kinds of error of a wrong formula, by comparing its tokens with those of a right one, as metrics.

    not_a_formula, wrong_function, wrong_range (another column or other rows), off_by_one_row, wrong_anchor ($), and
    wrong_condition (texts, numbers and comparisons). A formula can have several.
    """
    if not answer or CANNOT in (answer, reference):
        return {"not_a_formula": float(answer in ("", CANNOT)), "should_refuse": float(reference == CANNOT)}
    ours, theirs = tokens_of(reference), tokens_of(answer)

    def those(tokens: list[tuple[str, str]], *kinds: str) -> list[str]:
        return [text.upper() for kind, text in tokens if kind in kinds]

    cells, given = those(ours, "cell", "columns"), those(theirs, "cell", "columns")
    bare = [[text.replace("$", "") for text in some] for some in (cells, given)]
    parts: dict[str, Any] = {
        "wrong_function": sorted(functions_of(reference)) != sorted(functions_of(answer)),
        "wrong_range": bare[0] != bare[1],
        "off_by_one_row": bare[0] != bare[1] and _off_by_one(*bare),
        "wrong_anchor": bare[0] == bare[1] and cells != given,
        "wrong_condition": those(ours, "text", "number") != those(theirs, "text", "number")
        or [text for text in those(ours, "sign") if text in "<>=<>="]
        != [text for text in those(theirs, "sign") if text in "<>=<>="],
    }
    return {name: float(value) for name, value in parts.items()}


def _off_by_one(ours: list[str], theirs: list[str]) -> bool:
    """Whether the same columns are meant, and some row differs by one and none by more."""
    split = [[re.fullmatch(r"([A-Z]+)(\d+)", text) for text in some] for some in (ours, theirs)]
    if len(ours) != len(theirs) or not all(one and two for one, two in zip(*split, strict=True)):
        return False
    pairs = [(one, two) for one, two in zip(*split, strict=True) if one and two]
    return (
        all(one[1] == two[1] for one, two in pairs) and max(abs(int(one[2]) - int(two[2])) for one, two in pairs) == 1
    )
