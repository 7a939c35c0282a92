"""Answer rows: many requests at a time, results in the order of the rows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from tinyslm.batch.generators import EndpointRows, EngineRows, Result, RowGenerator
from tinyslm.batch.prompts import MissingColumn, PromptTemplate
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.data.rows import Row
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.inference.engine import Engine
from tinyslm.inference.output_constraint import OutputConstraint

READ_AHEAD = 4
"""Rows may be answered ahead of a slow one, up to this many times the number of concurrent requests."""

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class RowResult:
    """A row, the result to be written, whether that is an error, and the tokens of the prompt and of the answer."""

    row: Row
    result: Result
    failed: bool
    prompt_tokens: int = 0
    tokens: int = 0


def in_order(
    items: Iterable[Item], submit: Callable[[Item], Future[Value]], concurrency: int
) -> Iterator[tuple[Item, Future[Value]]]:
    """The items with their completed futures, in order, with at most `concurrency` of them running.

    An item whose future fails is submitted once more, since the failure of another request may have been the cause.
    If the caller stops early, the remaining futures are cancelled.
    """
    assert concurrency > 0
    source = iter(items)
    window: deque[tuple[Item, Future[Value], bool]] = deque()
    finished: SimpleQueue[Future[Value]] = SimpleQueue()
    running = 0

    def start(item: Item) -> Future[Value]:
        future = submit(item)
        future.add_done_callback(finished.put)
        return future

    try:
        while True:
            while running < concurrency and len(window) < READ_AHEAD * concurrency:
                if (item := next(source, None)) is None:
                    break
                window.append((item, start(item), False))
                running += 1
            if not window:
                return
            item, future, retried = window[0]
            if future.done() and future.exception() is not None and not retried:
                window[0] = item, start(item), True
                running += 1
            elif future.done():
                window.popleft()
                yield item, future
            if not future.done() or not finished.empty():
                finished.get()
                running -= 1
    finally:
        for _, future, _ in window:
            future.cancel()


@dataclass(frozen=True)
class _Prepared:
    """A row with its request, or the problem that prevents one."""

    row: Row
    constraint: OutputConstraint | None
    request: Any = None
    problem: str = ""


def answer_rows(
    generator: Engine | Endpoint,
    template: PromptTemplate,
    rows: Iterable[Row],
    keep: tuple[str, ...],
    concurrency: int,
    *,
    strict: bool = True,
) -> Generator[RowResult]:
    """The results of `rows`, in order, with at most `concurrency` requests in a started engine or a server.

    keep: input columns that are repeated in the results; `*`: all. strict: raise `TinyslmError` if the first row lacks
    a column that the template needs; otherwise, and for every other problem of a row, its result has an `error`.
    """
    rows_in: RowGenerator
    if isinstance(generator, Endpoint):
        rows_in = EndpointRows(generator, template, concurrency)
    else:
        rows_in = EngineRows(generator, template)

    def prepare(row: Row) -> _Prepared:
        if row.problem:
            return _Prepared(row, template.constraint, problem=row.problem)
        if strict and row.number == 1:
            _check_kept(row.values, keep)
        try:
            return _Prepared(row, *rows_in.build(row))
        except TinyslmError as error:
            if strict and row.number == 1 and isinstance(error, MissingColumn):
                raise
            return _Prepared(row, template.constraint, problem=error.problem)

    def submit(prepared: _Prepared) -> Future[Any]:
        if not prepared.problem:
            return rows_in.submit(prepared.request)
        failed: Future[Any] = Future()
        failed.set_exception(TinyslmError(prepared.problem, ""))
        return failed

    with closing(rows_in):
        for prepared, future in in_order(map(prepare, rows), submit, concurrency):
            row = prepared.row
            inputs = {"input": _columns(row.values, keep)} if keep else {}
            result = {"row": row.number, **inputs, **_result(rows_in, prepared, future)}
            yield RowResult(row, result, result["error"] is not None, result["prompt_tokens"], result["tokens"])


def _result(generator: RowGenerator, prepared: _Prepared, future: Future[Any]) -> Result:
    if (error := future.exception()) is None:
        return generator.result(prepared.request, future.result(), prepared.constraint)
    problem = error.problem if isinstance(error, TinyslmError) else f"{type(error).__name__}: {error}"
    value = {"value": None} if prepared.constraint and prepared.constraint.kind == "schema" else {}
    return {"text": None, **value, "finish": None, "prompt_tokens": 0, "tokens": 0, "error": problem}


def _check_kept(values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Raise `MissingColumn` if a row lacks a column that is to be repeated."""
    for name in names:
        if name not in (*values, "*"):
            raise MissingColumn(
                f'--keep {name}: the first row has no "{name}"; its columns: {", ".join(map(str, values))}.',
                did_you_mean(name, map(str, values)) or "Give one of these, or '*' for all.",
            )


def _columns(values: Mapping[str, Any], names: tuple[str, ...]) -> Result:
    """The named columns of a row; `*`: all."""
    chosen = values if "*" in names else {name: values.get(name) for name in names}
    return {str(name): _json_value(value) for name, value in chosen.items()}


def _json_value(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities become null, unknown types such as dates become text."""
    if isinstance(value, Mapping):
        return {str(name): _json_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
