"""Send an answer: as one JSON response at the end, or in pieces as server-sent events."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tinyslm.inference.request import Piece, Usage
from tinyslm.inference.tool_call_collector import ToolCallCollector
from tinyslm.serving.answers import AnswerStream
from tinyslm.serving.constraints import GrammarSpec
from tinyslm.serving.encoding import DONE, JsonResponse, event, new_id
from tinyslm.serving.errors import ApiError
from tinyslm.serving.request_log import log_of
from tinyslm.serving.schemas.common import ChoicesBody, GenerationBody
from tinyslm.serving.service import Prepare, service_of


class AnswerWriter(ABC):
    """Writes an answer in the format of one route."""

    @abstractmethod
    def write(self, number: int, piece: Piece) -> bytes:
        """Take the next piece of a sample; returns its events, which are only used in a stream."""

    @abstractmethod
    def end(self) -> bytes:
        """Called after the last piece; returns the last events."""

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """The whole answer, after `end`."""

    def fail(self, error: ApiError) -> bytes:
        """The last event of a stream that ends with an error."""
        return error.event


async def respond(
    http: HttpRequest,
    body: GenerationBody,
    count: int,
    grammar: GrammarSpec | None,
    prepare: Prepare,
    make_writer: Callable[[AnswerStream], AnswerWriter],
) -> Response:
    """Generate `count` samples and send them as the body asks. Raises `ApiError` or `TinyslmError`."""
    service = service_of(http)
    answer = await service.begin(log_of(http.scope), body, count, grammar, prepare)
    try:
        writer = make_writer(answer)
    except BaseException:
        await answer.close()
        raise
    if body.stream:
        return EventStreamResponse(answer, writer)
    async with service.answering(http, answer):
        async for pieces in answer:
            for number, piece in pieces:
                writer.write(number, piece)
    writer.end()
    return JsonResponse(writer.whole())


class EventStreamResponse(Response):
    """Sends the events of an answer.

    Nothing is sent before the first piece, so that an error before it has its HTTP status. A later error is reported in
    a last event.
    """

    media_type = "text/event-stream"

    def __init__(self, answer: AnswerStream, writer: AnswerWriter) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._answer, self._writer = answer, writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = HttpRequest(scope, receive)
        begun = False
        try:
            async with service_of(http).answering(http, self._answer):
                async for pieces in self._answer:
                    data = b"".join(self._writer.write(number, piece) for number, piece in pieces)
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    if data:
                        await send({"type": "http.response.body", "body": data, "more_body": True})
                data = self._writer.end()
        except ApiError as error:
            if not begun:
                raise
            data = self._writer.fail(error)
        await send({"type": "http.response.body", "body": data, "more_body": False})


class ChoicesWriter(AnswerWriter):
    """What chat completions and completions share: one choice per sample, in chunks or whole."""

    id_prefix: str
    object: str
    chunk_object: str

    def __init__(self, body: ChoicesBody, answer: AnswerStream, *, parse_calls: bool) -> None:
        """parse_calls: tool calls are not text."""
        self._stream, self._include_usage, self._answer = body.stream, body.include_usage, answer
        self._common = {
            "id": new_id(self.id_prefix),
            "object": self.chunk_object if body.stream else self.object,
            "created": int(time.time()),
            "model": answer.model.name,
        }
        self._samples = [ToolCallCollector(parse_calls=parse_calls) for _ in range(answer.count)]

    @abstractmethod
    def choice(self, number: int, sample: ToolCallCollector) -> dict[str, Any]:
        """The fields of a whole choice that differ between the routes."""

    @abstractmethod
    def chunks(self, number: int, piece: Piece, sample: ToolCallCollector) -> Iterator[bytes]:
        """The events of a piece; must pass it to `sample`."""

    def write(self, number: int, piece: Piece) -> bytes:
        sample = self._samples[number]
        if self._stream:
            return b"".join(self.chunks(number, piece, sample))
        sample.take(piece)
        return b""

    def end(self) -> bytes:
        if not self._include_usage:
            return DONE
        return event({**self._common, "choices": [], "usage": usage_of(self._answer.usage)}) + DONE

    def whole(self) -> dict[str, Any]:
        choices = [
            {"index": number, **self.choice(number, sample), "finish_reason": sample.finish_reason}
            for number, sample in enumerate(self._samples)
        ]
        return {**self._common, "choices": choices, "usage": usage_of(self._answer.usage)}

    def chunk_value(self, number: int, content: Any, logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": number, **content, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._common, "choices": [choice], **usage}


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
