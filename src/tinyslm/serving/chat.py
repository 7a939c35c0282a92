"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.call_stream import ArgumentsDelta, CallEvent, CallStart, TextDelta
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Piece, Request
from tinyslm.inference.tool_call_collector import CollectedCall, ToolCallCollector
from tinyslm.serving.answers import AnswerStream
from tinyslm.serving.constraints import conversation_grammar
from tinyslm.serving.encoding import EventTemplate, event
from tinyslm.serving.logprobs import chat_logprobs
from tinyslm.serving.models import ServedModel
from tinyslm.serving.prompting import answer_tokens, check_choices, conversation_ids, logit_bias, sampling_settings
from tinyslm.serving.schemas.chat import ChatBody
from tinyslm.serving.service import service_of
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.writers import ChoicesWriter, respond

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatBody, http: HttpRequest) -> Response:
    """Answer a conversation, whole or in pieces."""
    settings = service_of(http).settings
    check_choices(body.n, settings)
    choice = body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.function.name
    grammar = conversation_grammar(body.tools, choice, body.parallel_tool_calls, body.response_format)

    def prepare(model: ServedModel, compiled: Grammar | None) -> list[Request]:
        return [chat_request(body, choice, compiled, model, settings)]

    return await respond(http, body, body.n, grammar, prepare, partial(ChatWriter, body))


def chat_request(
    body: ChatBody, choice: str, grammar: Grammar | None, model: ServedModel, settings: ServerSettings
) -> Request:
    """What the engine is asked for by a body. Raises `ApiError` if the model cannot answer it."""
    engine = model.engine
    ids = conversation_ids(body.messages, () if choice == "none" else body.tools, engine)
    limit = body.max_completion_tokens or body.max_tokens
    return Request(
        ids,
        sampling_settings(body, engine, answer_tokens(limit, len(ids), engine.context, settings)),
        body.n,
        grammar,
        logprobs=body.top_logprobs if body.logprobs else None,
        continues=False,
        bias=logit_bias(body.logit_bias, engine.tokenizer),
    )


class ChatWriter(ChoicesWriter):
    id_prefix, object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, body: ChatBody, answer: AnswerStream) -> None:
        super().__init__(body, answer, parse_calls=bool(body.tools) and body.tool_choice != "none")
        self._logprobs, self._tokenizer = body.logprobs, answer.model.engine.tokenizer
        self._templates = [
            EventTemplate(lambda text, number=number: self.chunk_value(number, {"delta": {"content": text}}))
            for number in range(answer.count if body.stream else 0)
        ]

    def choice(self, number: int, sample: ToolCallCollector) -> dict[str, Any]:  # noqa: ARG002
        message: dict[str, Any] = {"role": "assistant", "refusal": None, "content": sample.text}
        if sample.calls:
            calls = [_call(call, arguments=call.arguments) for call in sample.calls]
            message |= {"content": sample.text or None, "tool_calls": calls}
        logprobs = chat_logprobs(sample.scores, self._tokenizer) if self._logprobs else None
        return {"message": message, "logprobs": logprobs}

    def chunks(self, number: int, piece: Piece, sample: ToolCallCollector) -> Iterator[bytes]:
        if not sample.begun:
            yield event(self.chunk_value(number, {"delta": {"role": "assistant", "content": ""}}))
        parts = [part for part in sample.take(piece) if isinstance(part, TextDelta | CallStart | ArgumentsDelta)]
        logprobs = chat_logprobs(piece.scores, self._tokenizer) if self._logprobs else None
        if logprobs and piece.scores and not parts:
            parts.append(TextDelta(""))
        for part in parts:
            if isinstance(part, TextDelta) and not self._logprobs:
                yield self._templates[number].render(part.text)
            else:
                yield event(self.chunk_value(number, {"delta": _delta(part, sample)}, logprobs))
            logprobs = None
        if piece.finish:
            yield event(self.chunk_value(number, {"delta": {}}, finish=sample.finish_reason))


def _delta(part: CallEvent, sample: ToolCallCollector) -> dict[str, Any]:
    """The delta of a chunk for some text, the beginning of a call, or some of its arguments."""
    match part:
        case CallStart(index, _):
            return {"tool_calls": [{"index": index, **_call(sample.calls[index], arguments="")}]}
        case ArgumentsDelta(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
        case TextDelta(text):
            return {"content": text}
    return {}


def _call(call: CollectedCall, *, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
