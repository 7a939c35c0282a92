"""Structured logic: arithmetic with a calculator, boolean expressions, deduction, and extraction to JSON."""

from tinyslm.packs.logic.arithmetic import ARITHMETIC
from tinyslm.packs.logic.boolean import BOOLEAN
from tinyslm.packs.logic.deduction import DEDUCTION
from tinyslm.packs.logic.extraction import EXTRACTION
from tinyslm.packs.pack import Pack

LOGIC = Pack(
    "logic",
    "word problems with a calculator, true or false, who is the tallest, products as JSON",
    (ARITHMETIC, BOOLEAN, DEDUCTION, EXTRACTION),
    settings={"train": {"grader": "logic"}},
)
