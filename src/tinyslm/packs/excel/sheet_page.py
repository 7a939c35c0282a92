"""The page of the server on which a person edits a sheet, asks for a formula, and sees its value."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from tinyslm.core.worker import WorkerError
from tinyslm.packs.excel.demo import MOST_COLUMNS
from tinyslm.packs.excel.formulas import LONGEST
from tinyslm.packs.excel.grading import ask_engine
from tinyslm.packs.excel.grammar import formula_grammar
from tinyslm.packs.excel.requests import question
from tinyslm.packs.excel.sheets import Sheet, sheet_of
from tinyslm.serving.page import Page
from tinyslm.serving.schemas.common import Body

MOST_ROWS = 200
"""Rows of a sheet on the page."""
ANSWER_TOKENS = 96
Text = Annotated[str, StringConstraints(max_length=200)]
Row = Annotated[list[Text], Field(max_length=MOST_COLUMNS)]


class SheetBody(Body):
    """A sheet, with its cells as a person types them."""

    headers: Annotated[list[Text], Field(min_length=1, max_length=MOST_COLUMNS)]
    rows: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS)]

    @property
    def sheet(self) -> Sheet:
        """The sheet; rows that are too short are filled up with blanks."""
        return sheet_of(self.headers, self.rows)


class QuestionBody(SheetBody):
    request: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class FormulaBody(SheetBody):
    formula: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]
    fill: bool = False


router = APIRouter(prefix="/packs/excel")


@router.post("/question")
async def ask(body: QuestionBody) -> dict[str, Any]:
    """What to ask a model about the sheet: fields of a request for a chat completion."""
    sheet = body.sheet
    constraint = formula_grammar({"sheet": sheet.json()})
    return {
        "messages": [{"role": "user", "content": question(sheet, body.request)}],
        "response_format": {"type": "lark", "grammar": constraint.value},
        "max_tokens": ANSWER_TOKENS,
    }


@router.post("/value")
async def compute(body: FormulaBody) -> dict[str, Any]:
    """The rows of texts that a formula gives on the sheet ("grid"), filled down if asked, or why there are none
    ("error").
    """
    asked = {"do": "value", "sheet": body.sheet.json(), "formula": body.formula, "fill": body.fill}
    try:
        return {"grid": (await asyncio.to_thread(ask_engine, asked))["grid"]}
    except WorkerError as error:
        return {"error": f"not computed: {error}"}


PAGE = Page("excel", files("tinyslm.packs.excel") / "page", router)
