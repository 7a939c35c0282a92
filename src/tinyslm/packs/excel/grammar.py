"""The grammar of formulas for one sheet: known functions with possible numbers of arguments, cells inside the sheet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.packs.excel.formulas import CANNOT, NEW_FUNCTIONS, known_functions
from tinyslm.packs.excel.sheets import letter_of

MOST_ARGUMENTS = 12
"""Arguments of functions that take any number."""

RULES = r"""start: "=" expr | "{cannot}"
expr: part (OPERATOR part)*
part: SIGN? SIGN? value "%"?
value: NUMBER | TEXT | BOOLEAN | range | call | "(" expr ")" | NAME | "{{" constant (/[,;.\\]/ constant)* "}}"
constant: SIGN? NUMBER | TEXT | BOOLEAN
range: CELL (":" CELL)? | COLUMNS
arg: expr?
OPERATOR: / ?(\+|-|\*|\/|\^|&|=|<>|<=|>=|<|>) ?/
SIGN: "-"
NUMBER: /[0-9]{{1,9}}({point}[0-9]{{1,6}})?/
TEXT: /"([^"\n]|""){{0,60}}"/
BOOLEAN: "TRUE" | "FALSE"
NAME: /[a-z]{{1,8}}/
CELL: "$"? LETTER "$"? ROW
COLUMNS: "$"? LETTER ":" "$"? LETTER
LETTER: /{letters}/
ROW: /{rows}/
"""


def formula_grammar(row: Mapping[str, Any]) -> OutputConstraint:
    """What an answer about the sheet of a row may look like, in the spelling of the row's mode."""
    headers, last = row["sheet"]["headers"], len(row["sheet"]["rows"]) + 1
    mode = row.get("mode")
    separator, point = ('";" " "?', ",") if mode == "semicolons" else ('"," " "?', r"\.")
    calls = []
    rules = RULES.format(
        cannot=CANNOT,
        point=point,
        letters="|".join(letter_of(index) for index in range(len(headers))),
        rows=numbers_to(last),
    )
    by_count: dict[tuple[int, int], list[str]] = {}
    for name, counts in known_functions().items():
        if mode != "2016" or name not in NEW_FUNCTIONS:
            by_count.setdefault(counts, []).append(name)
    for (least, allowed), names in sorted(by_count.items()):
        most = min(allowed, MOST_ARGUMENTS)
        if not most:
            arguments = ""
        else:
            more = f"({separator} arg){{{max(least, 1) - 1},{most - 1}}}"
            arguments = f"{'expr' if least else 'arg'} {more}" if most > 1 else ("expr" if least else "arg")
        named = " | ".join(f'"{name}"' for name in sorted(names, key=lambda name: (-len(name), name)))
        rules += f'F{least}X{most}: {named}\ncall{least}x{most}: F{least}X{most} "(" {arguments} ")"\n'
        calls.append(f"call{least}x{most}")
    return OutputConstraint("grammar", rules + f"call: {' | '.join(calls)}\n")


def numbers_to(last: int) -> str:
    """A regular expression for the numbers from 1 to `last`, without leading zeros."""
    digits = str(last)
    parts = [rf"[1-9][0-9]{{{length - 1}}}" if length > 1 else "[1-9]" for length in range(1, len(digits))]
    for at, digit in enumerate(digits):
        low = 1 if at == 0 else 0
        if int(digit) > low:
            rest = len(digits) - at - 1
            parts.append(f"{digits[:at]}[{low}-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return "|".join([*parts, digits])
