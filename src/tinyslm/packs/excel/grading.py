"""Grade formulas by what they compute: on the sheet, on two altered ones, and filled down if they belong to a row."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.worker import Limits, Worker, WorkerError
from tinyslm.evaluation.graders import Example, Grade
from tinyslm.packs.excel.formulas import (
    CANNOT,
    LONGEST,
    NEW_FUNCTIONS,
    differences,
    formula_in,
    functions_of,
    with_commas,
)

LIMITS = Limits(cpu_seconds=10, memory=1 << 36, wait_seconds=120, reply=1 << 20, file_size=1 << 28)
"""The address space is what wasmtime reserves, most of which it never touches; formulon itself holds at most 4 GiB."""
_worker = Worker("tinyslm.packs.excel.engine:answer", LIMITS)


def ask_engine(request: dict[str, Any]) -> dict[str, Any]:
    """The reply of the engines. Raises `WorkerError` for formulas that take too much time or memory."""
    if any(find_spec(name) is None for name in ("ironcalc", "formulon", "formulas", "openpyxl")):
        raise require_extra("packs", "The pack excel")
    return _worker.ask(request)


def grade_formula(example: Example, answer: str) -> Grade:
    """The answer's formula behaves as the example's "answer" on its "sheet" and on altered sheets.

    Parts, 0 or 1: the kinds of error (see `differences`), "too_new" for functions that the example's mode "2016" lacks,
    and "disagreed" where the engines disagree.
    """
    semicolons = example.get("mode") == "semicolons"
    reference, given = str(example["answer"]), formula_in(answer)
    if semicolons:
        reference, given = with_commas(reference), with_commas(given)
    if reference == CANNOT or given in ("", CANNOT):
        right = reference == given
        return Grade(float(right), {} if right else differences(reference, given), "" if right else "no formula")
    if example.get("mode") == "2016" and (newer := functions_of(given) & NEW_FUNCTIONS):
        return Grade(0.0, {"too_new": 1.0}, f"{', '.join(sorted(newer))} is not in Excel 2016")
    if len(given) > LONGEST:
        return Grade(0.0, differences(reference, given), "the formula is too long")
    request = {
        "do": "compare",
        "sheet": example["sheet"],
        "reference": reference,
        "answer": given,
        "fill": example.get("fill", False),
    }
    try:
        reply = ask_engine(request)
    except WorkerError as error:
        return Grade(0.0, differences(reference, given), f"it could not be computed: {error}")
    if "mistake" in reply:
        raise TinyslmError(reply["mistake"], "Correct the example.")
    parts = {"disagreed": 1.0} if reply["disagreed"] else {}
    if reply["right"]:
        return Grade(1.0, parts)
    return Grade(0.0, parts | differences(reference, given), reply["why"])


def grade_value(example: Example, answer: str) -> Grade:
    """The value at the answer's end is the formula's on the example's sheet, and so picks it from the altered ones."""
    stated = answer.strip().rsplit("\n", 1)[-1].rpartition("value:")[2].strip().strip("\"'. ")
    wanted, *others = example["values"]
    right = _equal(stated, str(wanted))
    return Grade(float(right), {"other_sheet": float(not right and any(_equal(stated, str(one)) for one in others))})


def _equal(one: str, two: str) -> bool:
    try:
        a, b = (float(text.replace(",", "").replace("$", "").replace("€", "")) for text in (one, two))
    except ValueError:
        return " ".join(one.casefold().split()) == " ".join(two.casefold().split())
    return abs(a - b) <= max(0.005, 1e-6 * abs(b))
