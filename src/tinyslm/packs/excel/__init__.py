"""Spreadsheets: from a request in words and a table to a formula that computes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tinyslm.core.errors import require_extra
from tinyslm.packs.excel.baseline import nearest_formula
from tinyslm.packs.excel.demo import demo
from tinyslm.packs.excel.skills import EXPLAIN, FORMULA, REPAIR
from tinyslm.packs.pack import Pack

if TYPE_CHECKING:
    from tinyslm.packs.browser_page import BrowserPage
    from tinyslm.serving.page import Page


def _page() -> Page:
    from tinyslm.packs.excel.sheet_page import PAGE  # needs the extra serve

    return PAGE


def _browser_page() -> BrowserPage:
    if find_spec("ironcalc") is None:
        raise require_extra("packs", "The page of the pack excel")
    from tinyslm.packs.excel.browser_page import browser_page

    return browser_page()


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
    browser_page=_browser_page,
)
