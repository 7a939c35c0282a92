"""Spreadsheets: from a request in words and a table to a formula that computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyslm.packs.excel.baseline import nearest_formula
from tinyslm.packs.excel.demo import demo
from tinyslm.packs.excel.skills import EXPLAIN, FORMULA, REPAIR
from tinyslm.packs.pack import Pack

if TYPE_CHECKING:
    from tinyslm.serving.page import Page


def _page() -> Page:
    from tinyslm.packs.excel.sheet_page import PAGE  # needs the extra serve

    return PAGE


EXCEL = Pack(
    "excel",
    "requests in words to formulas that compute; repairs; explanations",
    (FORMULA, REPAIR, EXPLAIN),
    rows=8_000,
    settings={"train": {"grader": "excel", "batch": 1}, "optimizer": {"lr": 3e-3}},
    requests=Path(__file__).parent / "requests.jsonl",
    baseline=nearest_formula,
    demo=demo,
    page=_page,
)
