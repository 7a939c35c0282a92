"""Rows as `Asking` describes them, answered in order; results have their number, what was kept of them, the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tinyslm.core.errors import TinyslmError
from tinyslm.serving.automation.answering import Answer, Ask, answers
from tinyslm.serving.automation.asking import Asker, Asking, NoSuchColumn
from tinyslm.serving.automation.results import Done, kept, result_of
from tinyslm.serving.automation.rows import Row

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine


def answer_rows(
    engine: Engine,
    asking: Asking,
    rows: Iterator[Row],
    keep: tuple[str, ...],
    concurrency: int,
    *,
    strict: bool = True,
) -> Iterator[Done]:
    """The results of `rows`, in order, with at most `concurrency` requests under way.

    strict: raise `TinyslmError` when the very first row lacks the columns that are asked for, as the others will.
    """
    asker = Asker(engine, asking)
    for answer in answers(engine, _asks(asker, rows, strict=strict), concurrency):
        yield _done(asker, answer, asking, keep)


def _asks(asker: Asker, rows: Iterator[Row], *, strict: bool) -> Iterator[Ask[Row]]:
    for row in rows:
        if row.problem:
            yield Ask(row, problem=row.problem)
            continue
        try:
            yield Ask(row, asker.request(row))
        except NoSuchColumn as error:
            if strict and row.number == 1:
                raise
            yield Ask(row, problem=error.problem)
        except TinyslmError as error:
            yield Ask(row, problem=error.problem)


def _done(asker: Asker, answer: Answer[Row], asking: Asking, keep: tuple[str, ...]) -> Done:
    row = answer.mark
    form = asking.form if answer.problem else asker.form(row)
    inputs = {"input": kept(row.values, keep)} if keep else {}
    result = {"row": row.number, **inputs, **result_of(answer, form)}
    return Done(row, result, result["error"] is not None, result["prompt_tokens"], result["tokens"])
