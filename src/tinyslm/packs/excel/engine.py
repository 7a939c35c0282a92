"""Runs in the worker process: spreadsheets that are computed by two engines, ironcalc and formulon.

A formula is computed in a sheet's first free column but one: in row 2, or filled down to the last row. ironcalc
computes it on the sheet and on altered ones; formulon, which is slower, cross-checks on the sheet. Where they disagree
whether an answer is right, a third engine decides, formulas, or else formulon, whose results its authors compare with
Excel's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyslm.packs.excel.sheets import Cell, Sheet, altered, serial_of

ALTERED = 2
"""Altered sheets on which an answer has to be right too."""
WINDOW = (64, 12)
"""Rows and columns that are read of a result that spills."""
UNSUPPORTED = ("#N/IMPL!", "#NAME?", "#ERROR!", "#CALC!")
Grid = list[list[Any]]
Engine = Callable[[Sheet, Sequence[str], bool], list[Grid]]
"""The results of formulas on a sheet, each alone in it, filled down or not."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer {"do": "compare" or "value", "sheet", "formula", ...}; see `_compare` and `_value`."""
    return _KINDS[request["do"]](request)


def _value(request: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a formula as text, by ironcalc, and by formulon where ironcalc lacks a function.

    "values": the first one on the sheet, and on each of the "altered" ones. "grid": all that it gives on the sheet: one
    row for each of the sheet if it is to "fill" them, or what it spills.
    """
    sheet, fill = Sheet.from_json(request["sheet"]), bool(request.get("fill"))
    grids = []
    for seed in range(request.get("altered", 0) + 1):
        some = altered(sheet, seed) if seed else sheet
        [grid] = _ironcalc(some, [request["formula"]], fill)
        if str(grid[0][0]).startswith(("error #N/IMPL", "error #NAME")):
            [grid] = _formulon(some, [request["formula"]], fill)
        grids.append([[as_text(value) for value in row] for row in grid])
    return {"values": [grid[0][0] for grid in grids], "grid": grids[0]}


def _compare(request: Mapping[str, Any]) -> dict[str, Any]:
    """Whether an answer behaves as the reference on the sheet and on altered ones: "right", "why", "disagreed"."""
    sheet = Sheet.from_json(request["sheet"])
    reference, given, fill = request["reference"], request["answer"], bool(request.get("fill"))
    ours = _verdict(_ironcalc, sheet, (reference, given), fill)
    check = _verdict(_formulon, sheet, (reference, given), fill, altered_too=ours is None)
    decided = ours or check
    if decided is None:
        return {"mistake": f"No engine computes the reference {reference!r:.200}."}
    disagreed = ours is not None and check is not None and ours.right_here != check.right_here
    if disagreed:
        decided = _verdict(_formulas, sheet, (reference, given), fill) or _verdict(
            _formulon, sheet, (reference, given), fill
        )
        assert decided is not None
    return {"right": decided.right, "why": decided.why, "disagreed": disagreed}


@dataclass(frozen=True)
class Verdict:
    """Whether an answer has the values of the reference on the sheet, and on the altered ones too."""

    right_here: bool
    right: bool
    why: str = ""


def _verdict(
    engine: Engine, sheet: Sheet, formulas: Sequence[str], fill: bool, *, altered_too: bool = True
) -> Verdict | None:
    """Compare reference and answer; `None` if the engine lacks what the reference needs."""
    for seed in range(ALTERED + 1 if altered_too else 1):
        some = altered(sheet, seed) if seed else sheet
        wanted, found = engine(some, formulas, fill)
        if not seed and all(_unsupported(cell) for row in wanted for cell in row if cell is not None):
            return None
        if not same_grid(wanted, found):
            where = "an altered sheet" if seed else "the sheet"
            row = next(
                (n for n, (one, two) in enumerate(zip(wanted, found, strict=False)) if not same_row(one, two)), 0
            )
            why = f"on {where}: {_shown(found, row)} instead of {_shown(wanted, row)}"
            return Verdict(bool(seed), False, why)
    return Verdict(True, True)


def _unsupported(cell: Any) -> bool:
    return isinstance(cell, str) and cell.startswith("error ") and cell[6:] in UNSUPPORTED


def _shown(grid: Grid, row: int) -> str:
    return as_text(grid[row][0]) if row < len(grid) and grid[row] else "nothing"


def as_text(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return f"{round(value, 6):.12g}"
    return "" if value is None else str(value).removeprefix("error ").removeprefix("text ")


def same_grid(one: Grid, two: Grid) -> bool:
    """Whether two results are equal: numbers within rounding, texts and errors exactly, blanks as empty texts."""
    return len(one) == len(two) and all(same_row(*rows) for rows in zip(one, two, strict=True))


def same_row(one: Sequence[Any], two: Sequence[Any]) -> bool:
    """See `same_grid`."""
    return len(one) == len(two) and all(_same(*cells) for cells in zip(one, two, strict=True))


def _same(one: Any, two: Any) -> bool:
    one, two = ("text " if value is None else value for value in (one, two))
    if isinstance(one, bool) or isinstance(two, bool) or isinstance(one, str) or isinstance(two, str):
        return type(one) is type(two) and one == two
    return math.isclose(one, two, rel_tol=1e-7, abs_tol=1e-9)


def filled_down(formula: str, rows: int) -> list[str]:
    """A formula for row 2, and what filling it down makes of it in the `rows - 1` rows below."""
    from openpyxl.formula.translate import Translator

    translator = Translator(formula, origin="AZ2")
    return [formula, *(translator.translate_formula(f"AZ{number}") for number in range(3, rows + 2))]


def _result(read: Callable[[int, int], Any], filled: int) -> Grid:
    """The cells from a formula's own on: `filled` rows of one column, or what it spills, up to the first blanks."""
    if filled:
        return [[read(row, 0)] for row in range(filled)]
    first = [read(0, column) for column in range(2)]
    width, height = 1, 1
    if first[1] is not None:
        width = next((n for n in range(2, WINDOW[1]) if read(0, n) is None), WINDOW[1])
    while height < WINDOW[0] and (read(height, 0) is not None or read(height + 1, 0) is not None):
        height += 1
    return [[read(row, column) for column in range(width)] for row in range(height)]


def _values(sheet: Sheet) -> Iterator[tuple[int, int, Any]]:
    """Row and column of each cell with a value, from 0, and the value as engines take it."""
    for row, cells in enumerate([sheet.headers, *sheet.rows]):
        for column, cell in enumerate(cells):
            if cell is not None:
                yield row, column, serial_of(cell["date"]) if isinstance(cell, Mapping) else cell


def _ironcalc(sheet: Sheet, formulas: Sequence[str], fill: bool) -> list[Grid]:
    return [_ironcalc_one(sheet, formula, fill) for formula in formulas]


def _ironcalc_one(sheet: Sheet, formula: str, fill: bool) -> Grid:
    import ironcalc

    model = ironcalc.create("sheet", "en", "UTC", "en")
    setters: dict[type, Any] = {str: model.update_cell_with_text, bool: model.update_cell_with_bool}
    for row, column, value in _values(sheet):
        setters.get(type(value), model.update_cell_with_number)(0, row + 1, column + 1, value)
    place = len(sheet.headers) + 2
    try:
        for row, one in enumerate(filled_down(formula, len(sheet.rows)) if fill else [formula], 2):
            model.update_cell_with_formula(0, row, place, one)
        model.evaluate()
    except ironcalc.WorkbookError as error:
        return [[f"error {error}"]]
    error_type = ironcalc.CellType.ErrorValue

    def read(row: int, column: int) -> Any:
        value = model.get_cell_value(0, row + 2, column + place)
        if isinstance(value, str):
            return ("error " if model.get_cell_type(0, row + 2, column + place) == error_type else "text ") + value
        return value

    return _result(read, len(sheet.rows) if fill else 0)


def _formulon(sheet: Sheet, formulas: Sequence[str], fill: bool) -> list[Grid]:
    from formulon import FormulonError, Workbook

    place, rows = len(sheet.headers) + 1, len(sheet.rows)
    found: list[Grid] = []
    with Workbook.create_default() as book:
        setters: dict[type, Any] = {str: book.set_text, bool: book.set_bool}
        for row, column, value in _values(sheet):
            setters.get(type(value), book.set_number)(0, row, column, value)

        def read(row: int, column: int) -> Any:
            value = book.get_value(0, row + 1, column + place)
            if value.kind.name == "ERROR":
                return f"error {_ERRORS.get(int(value.error_code or 0), '#VALUE!')}"
            plain = value.to_python()
            return f"text {plain}" if isinstance(plain, str) else plain

        for formula in formulas:
            lines = filled_down(formula, rows) if fill else [formula]
            try:
                for row, one in enumerate(lines, 1):
                    book.set_formula(0, row, place, one)
                book.recalc()
                found.append(_result(read, rows if fill else 0))
            except FormulonError as error:
                found.append([[f"error {error}"]])
            for row in range(1, len(lines) + 1):
                book.set_blank(0, row, place)
    return found


def _formulas(sheet: Sheet, formulas: Sequence[str], fill: bool) -> list[Grid]:
    """Single values only; what the engine cannot compute is an error that stands for "unsupported"."""
    return [[["error #N/IMPL!"]] if fill else _formulas_one(sheet, formula) for formula in formulas]


def _formulas_one(sheet: Sheet, formula: str) -> Grid:
    import formulas
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = formulas.Parser().ast(formula)[1].compile()
            inputs = [_cells(sheet, str(name)) for name in compiled.inputs]
            value = np.asarray(compiled(*inputs), object).ravel().tolist()[0]
    except Exception:  # the engine raises whatever it meets
        return [["error #N/IMPL!"]]
    return [[f"text {value}" if isinstance(value, str) else f"error {value}" if not _is_plain(value) else value]]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _cells(sheet: Sheet, name: str) -> Any:
    """The values of a range such as B2:C5. Raises `ValueError` for other references."""
    import numpy as np
    from openpyxl.utils import range_boundaries

    left, top, right, bottom = range_boundaries(name.replace("$", ""))
    if None in (left, top, right, bottom) or bottom > sheet.last or right > len(sheet.headers):
        raise ValueError(name)
    grid: list[list[Cell]] = [list(sheet.headers), *[list(row) for row in sheet.rows]]
    cells = [[grid[row][column] for column in range(left - 1, right)] for row in range(top - 1, bottom)]
    values = [
        [serial_of(one["date"]) if isinstance(one, Mapping) else "" if one is None else one for one in row]
        for row in cells
    ]
    return np.array(values, object) if len(values) > 1 or len(values[0]) > 1 else values[0][0]


_ERRORS = {0: "#NULL!", 1: "#DIV/0!", 2: "#VALUE!", 3: "#REF!", 4: "#NAME?", 5: "#NUM!", 6: "#N/A"}
_KINDS = {"compare": _compare, "value": _value}
