"""The demo: a sheet of the user, a request in words, the formula, its value, and a copy of the sheet that holds it."""

from __future__ import annotations

import csv
import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.worker import WorkerError
from tinyslm.packs.excel.formulas import CANNOT, formula_in
from tinyslm.packs.excel.grading import ask_engine
from tinyslm.packs.excel.requests import question
from tinyslm.packs.excel.sheets import Cell, Sheet, cell_of, letter_of
from tinyslm.packs.pack import Answerer, Demonstration

MOST_COLUMNS, MOST_ROWS = 24, 2_000
"""Columns that a model is shown, and rows with which a formula is computed here."""


def demo(file: Path, request: str, answer: Answerer, out: Path | None) -> Demonstration:
    """See `Demo`."""
    if not request.strip():
        raise TinyslmError("No request was given.", f'Say what you want: tinyslm packs demo excel {file} "total sales"')
    sheet, last = read_sheet(file)
    shown = Sheet(sheet.headers[:MOST_COLUMNS], [row[:MOST_COLUMNS] for row in sheet.rows])
    asked = question(shown, request).replace(f"rows 2 to {shown.last}", f"rows 2 to {last}")
    row = {
        "skill": "formula",
        "messages": [{"role": "user", "content": asked}],
        "sheet": {"headers": list(shown.headers), "rows": [None] * (last - 1)},
    }
    formula = formula_in(answer([row])[0])
    if formula in ("", CANNOT):
        said = "The model says that this sheet cannot answer this." if formula else "The model gave no formula."
        return Demonstration([said], {"formula": None, "value": None})
    lines, value = [f"Formula: {formula}"], None
    if last <= MOST_ROWS + 1:
        try:
            value = ask_engine({"do": "value", "sheet": sheet.json(), "formula": formula})["values"][0]
        except WorkerError as error:
            value = f"could not be computed ({error})"
        lines.append(f"Value:   {value}")
    else:
        lines.append(f"Value:   open the copy; sheets of more than {MOST_ROWS:,} rows are not computed here")
    if len(sheet.headers) > MOST_COLUMNS:
        lines.append(f"Only the first {MOST_COLUMNS} of {len(sheet.headers)} columns were shown to the model.")
    if out is not None:
        write_copy(file, out, formula, len(sheet.headers) + 2)
    return Demonstration(lines, {"formula": formula, "value": value}, out)


def read_sheet(file: Path) -> tuple[Sheet, int]:
    """The first `MOST_ROWS` rows of a file's first sheet, and the number of its last row.

    Raises `TinyslmError` for files that are no sheets, and for empty ones.
    """
    if not file.is_file():
        raise TinyslmError(f"{file} does not exist.", "Check the path.")
    read = {".xlsx": _read_xlsx, ".csv": _read_csv}.get(file.suffix.lower())
    if read is None:
        raise TinyslmError(f"{file} is not a sheet.", "Give a file that ends in .xlsx or .csv.")
    rows, last = read(file)
    headers = [("" if cell is None else str(_cell(cell))) for cell in rows[0]] if rows else []
    while (
        headers
        and not headers[-1].strip()
        and all(len(row) < len(headers) or row[len(headers) - 1] is None for row in rows)
    ):
        headers.pop()
    body = [[_cell(cell) for cell in (*row, *[None] * len(headers))][: len(headers)] for row in rows[1:]]
    if not headers or not body:
        raise TinyslmError(f"{file} has no table.", "Put headers in row 1 and data below them.")
    return Sheet(headers, body), max(last, len(body) + 1)


def _read_xlsx(file: Path) -> tuple[list[tuple[Any, ...]], int]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise require_extra("packs", "Reading .xlsx files") from None
    try:
        book = load_workbook(file, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises what the damaged part makes it raise
        raise TinyslmError(f"Could not read {file}: {error}"[:200], "Save it again as .xlsx.") from None
    try:
        sheet = book.worksheets[0]
        return list(islice(sheet.iter_rows(values_only=True), MOST_ROWS + 1)), int(sheet.max_row or 0)
    finally:
        book.close()


def _read_csv(file: Path) -> tuple[list[tuple[Any, ...]], int]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        sample = stream.read(1 << 16)
        try:
            dialect: Any = csv.Sniffer().sniff(sample, ",;\t|")
        except csv.Error:
            dialect = csv.excel
        stream.seek(0)
        reader = csv.reader(stream, dialect)
        rows = [tuple(cell_of(cell) for cell in row) for row in islice(reader, MOST_ROWS + 1)]
        return rows, len(rows) + sum(1 for _ in reader)


def _cell(value: Any) -> Cell:
    if isinstance(value, datetime.datetime | datetime.date):
        return {"date": value.isoformat()[:10]}
    return value if value is None or isinstance(value, bool | int | float | str | dict) else str(value)


def write_copy(file: Path, out: Path, formula: str, column: int) -> None:
    """Write a copy of the sheet as .xlsx with the formula in row 2 of a free column."""
    from openpyxl import Workbook, load_workbook

    if out.suffix.lower() != ".xlsx":
        raise TinyslmError(f"{out} does not end in .xlsx.", "The copy is written as .xlsx.")
    if file.suffix.lower() == ".xlsx":
        book = load_workbook(file)
        sheet = book.worksheets[0]
    else:
        book = Workbook()
        sheet = book.worksheets[0]
        for row in _read_csv(file)[0]:
            sheet.append([datetime.date.fromisoformat(one["date"]) if isinstance(one, dict) else one for one in row])
    sheet[f"{letter_of(column - 1)}2"] = formula
    book.save(out)
