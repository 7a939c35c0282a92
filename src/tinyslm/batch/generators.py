"""Generators that answer rows: an engine, or a server with OpenAI's API."""

from __future__ import annotations

import json
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from tinyslm.batch.prompts import PromptTemplate, RequestBuilder, RowReader, RowRequest
from tinyslm.core.errors import TinyslmError
from tinyslm.data.rows import Row
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.inference.generation import join_pieces
from tinyslm.inference.output_constraint import OutputConstraint, is_complete
from tinyslm.inference.request import Completion, Piece, Request, Usage
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine

Result = dict[str, Any]


class RowGenerator(Protocol):
    """Answers the requests of rows: an engine, or a server."""

    def build(self, row: Row) -> tuple[OutputConstraint | None, Any]:
        """The constraint and the request of a row. Raises `TinyslmError` for a row that is not a valid request."""

    def submit(self, request: Any) -> Future[Any]:
        """Start a request; its failure becomes the future's exception."""

    def result(self, request: Any, answer: Any, constraint: OutputConstraint | None) -> Result:
        """The result of an answer, see `result_of`."""

    def close(self) -> None:
        """Wait for what still runs."""


class EngineRows(RequestBuilder):
    """A started engine as a `RowGenerator`."""

    def submit(self, request: Request) -> Future[Completion]:
        return submit_request(self._engine, request)

    def result(self, request: Request, answer: Completion, constraint: OutputConstraint | None) -> Result:
        return result_of(request, answer, constraint)

    def close(self) -> None:
        """Nothing to do: cancelled requests end within a step."""


class EndpointRows:
    """A server as a `RowGenerator`, with `concurrency` threads. JSON schemas are the only constraints."""

    def __init__(self, endpoint: Endpoint, template: PromptTemplate, concurrency: int) -> None:
        """Raises `TinyslmError` for a template that is invalid, or that has another constraint."""
        _check_constraint(template.constraint)
        self._endpoint = endpoint
        self._reader = RowReader(template, template.sampling.over(SamplingSettings()))
        self._pool = ThreadPoolExecutor(concurrency)

    def build(self, row: Row) -> tuple[OutputConstraint | None, RowRequest]:
        asked = self._reader.read(row)
        _check_constraint(asked.constraint)
        return asked.constraint, asked

    def submit(self, request: RowRequest) -> Future[tuple[Completion, Usage]]:
        return self._pool.submit(self._answer, request)

    def result(
        self,
        request: RowRequest,  # noqa: ARG002
        answer: tuple[Completion, Usage],
        constraint: OutputConstraint | None,
    ) -> Result:
        completion, usage = answer
        # The server may have used the schema or not: a complete text that is JSON counts as valid.
        complete = constraint is None or (completion.finish == "stop" and _is_json(completion.text))
        return as_result(completion, usage.prompt_tokens, constraint, complete=complete)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _answer(self, request: RowRequest) -> tuple[Completion, Usage]:
        schema = request.constraint.value if request.constraint else None
        return self._endpoint.answer(request.prompt, request.settings, schema)


def submit_request(engine: Engine, request: Request) -> Future[Completion]:
    """Submit a request of one sample; a failure becomes the future's exception."""
    future: Future[Completion] = Future()
    pieces: list[Piece] = []

    def collect(piece: Piece | Exception) -> None:
        with suppress(InvalidStateError):  # the caller has cancelled it
            if isinstance(piece, Exception):
                future.set_exception(piece)
                return
            pieces.append(piece)
            if piece.finish:
                future.set_result(join_pieces(pieces)[0])

    try:
        generation = engine.submit(request, collect)
    except TinyslmError as error:
        future.set_exception(error)
    else:
        future.add_done_callback(lambda done: generation.cancel() if done.cancelled() else None)
    return future


def result_of(request: Request, completion: Completion, constraint: OutputConstraint | None) -> Result:
    """`text`, `value` (with a schema: the parsed text), `finish`, token counts and `error` (`None` without one).

    A text that does not satisfy the constraint, because it was cut off or repeats items, is an error.
    """
    complete = constraint is None or is_complete(request, completion)
    return as_result(completion, len(request.prompt_ids), constraint, complete=complete)


def as_result(
    completion: Completion, prompt_tokens: int, constraint: OutputConstraint | None, *, complete: bool
) -> Result:
    """The same, given whether the text satisfies the constraint."""
    error, value = None, {}
    if completion.finish == "invalid":
        error = "the answer repeats items, which the schema forbids (uniqueItems)"
    elif not complete:
        error = f"the answer was cut off after {completion.tokens} tokens, before it satisfied the constraint"
    if constraint is not None and constraint.kind == "schema":
        value = {"value": json.loads(completion.text) if complete else None}
    return {
        "text": completion.text,
        **value,
        "finish": completion.finish,
        "prompt_tokens": prompt_tokens,
        "tokens": completion.tokens,
        "error": error,
    }


def _check_constraint(constraint: OutputConstraint | None) -> None:
    if constraint is not None and constraint.kind != "schema":
        raise TinyslmError(
            f"A {constraint.kind} constraint is not supported with a server.",
            "Use --schema, or run the model in our engine.",
        )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
