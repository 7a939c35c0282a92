"""/v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.request import Piece, Request, Usage
from tinyslm.serving.bridge import Answer
from tinyslm.serving.errors import bad_request
from tinyslm.serving.models import Served
from tinyslm.serving.prompting import answer_tokens, bias, conversation_grammar, conversation_ids, sampling
from tinyslm.serving.scores import chat_scores
from tinyslm.serving.service import service_of
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.shapes.chat import ChatBody
from tinyslm.serving.speech import Delta, Speech
from tinyslm.serving.streaming import EventStream
from tinyslm.serving.wire import DONE, MARK, Json, around_text, event, new_id, quoted

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatBody, http: HttpRequest) -> Response:
    """Answer a conversation, whole or piece by piece."""
    service = service_of(http)
    if body.n > service.settings.max_choices:
        raise bad_request(f"n is {body.n}; {service.settings.max_choices} are possible.", "n")
    answer, writer = await service.begin(
        http,
        body,
        body.n,
        lambda served: [_request(body, served, service.settings)],
        lambda answer: _Writer(body, answer),
    )
    if body.stream:
        return EventStream(answer, writer.write, writer.end)
    async with service.answering(http, answer):
        async for pieces in answer:
            writer.take(pieces)
    return Json(writer.whole())


def _request(body: ChatBody, served: Served, settings: ServerSettings) -> Request:
    """What the engine is asked for; raises `TinyslmError` or `ApiError` for what cannot be done."""
    engine = served.engine
    choice = body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.function.name
    told = () if choice == "none" else body.tools
    ids = conversation_ids(body.messages, told, engine)
    asked = body.max_completion_tokens or body.max_tokens
    return Request(
        ids,
        sampling(body, engine, answer_tokens(asked, len(ids), engine.context, settings)),
        body.n,
        conversation_grammar(told, choice, body.parallel_tool_calls, body.response_format, served),
        logprobs=body.top_logprobs if body.logprobs else None,
        continues=False,
        bias=bias(body.logit_bias, engine.tokenizer),
    )


class _Writer:
    """The answer in OpenAI's words, whole or in chunks."""

    def __init__(self, body: ChatBody, answer: Answer) -> None:
        self._body, self._answer = body, answer
        self._tokenizer = answer.served.engine.tokenizer
        self._common = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": answer.served.name,
        }
        self._speeches = [Speech(calls=bool(body.tools) and body.tool_choice != "none") for _ in range(body.n)]
        self._plain = [self._skeleton(number) for number in range(body.n)] if body.stream else []

    def take(self, pieces: Sequence[tuple[int, Piece]]) -> None:
        """Keep some pieces for the whole answer."""
        for number, piece in pieces:
            self._speeches[number].take(piece)

    def whole(self) -> dict[str, Any]:
        """The whole answer."""
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "refusal": None, **speech.message()},
                "logprobs": chat_scores(speech.scores, self._tokenizer) if self._body.logprobs else None,
                "finish_reason": speech.finish,
            }
            for number, speech in enumerate(self._speeches)
        ]
        return {**self._common, "object": "chat.completion", "choices": choices, "usage": usage(self._answer.usage)}

    def write(self, pieces: Sequence[tuple[int, Piece]]) -> bytes:
        """The chunks for some pieces."""
        return b"".join(line for number, piece in pieces for line in self._lines(number, piece))

    def end(self) -> bytes:
        """The last chunks."""
        if not self._body.tells_usage:
            return DONE
        return event({**self._common, "choices": [], "usage": usage(self._answer.usage)}) + DONE

    def _lines(self, number: int, piece: Piece) -> Iterator[bytes]:
        speech = self._speeches[number]
        if not speech.begun:
            yield self._chunk(number, {"role": "assistant", "content": ""})
        deltas = speech.take(piece)
        if self._body.logprobs and piece.scores and not deltas:
            deltas = [Delta("")]
        for place, delta in enumerate(deltas):
            if delta.call is None and not self._body.logprobs:
                before, after = self._plain[number]
                yield before + quoted(delta.text) + after
            else:
                scores = chat_scores(piece.scores, self._tokenizer) if self._body.logprobs and not place else None
                yield self._chunk(number, delta.content(), scores)
        if piece.finish:
            yield self._chunk(number, {}, finish=speech.finish)

    def _chunk(self, number: int, delta: Any, scores: Any = None, finish: str | None = None) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": scores, "finish_reason": finish}
        usage = {"usage": None} if self._body.tells_usage else {}
        return event({**self._common, "choices": [choice], **usage})

    def _skeleton(self, number: int) -> tuple[bytes, bytes]:
        """A chunk with some text, as what stands before the text and after it."""
        return around_text(self._chunk(number, {"content": MARK}))


def usage(used: Usage) -> dict[str, Any]:
    """Tokens used, in OpenAI's words."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.generated_tokens,
        "total_tokens": used.prompt_tokens + used.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
    }
