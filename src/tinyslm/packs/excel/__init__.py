"""Spreadsheets: from a request in words and a table to a formula that computes."""

from pathlib import Path

from tinyslm.packs.excel.baseline import nearest_formula
from tinyslm.packs.excel.demo import demo
from tinyslm.packs.excel.skills import EXPLAIN, FORMULA, REPAIR
from tinyslm.packs.pack import Pack

EXCEL = Pack(
    "excel",
    "requests in words to formulas that compute; repairs; explanations",
    (FORMULA, REPAIR, EXPLAIN),
    rows=20_000,
    settings={"train": {"grader": "excel"}},
    requests=Path(__file__).parent / "requests.jsonl",
    baseline=nearest_formula,
    demo=demo,
)
