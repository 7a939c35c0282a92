"""/v1/completions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Piece, Request
from tinyslm.inference.tool_call_collector import ToolCallCollector
from tinyslm.serving.answers import AnswerStream
from tinyslm.serving.constraints import format_grammar
from tinyslm.serving.encoding import EventTemplate, event
from tinyslm.serving.errors import bad_request
from tinyslm.serving.logprobs import CompletionLogprobs
from tinyslm.serving.models import ServedModel
from tinyslm.serving.prompting import answer_tokens, check_choices, encoded, logit_bias, sampling_settings
from tinyslm.serving.schemas.texts import CompletionBody
from tinyslm.serving.service import service_of
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.writers import ChoicesWriter, respond

router = APIRouter()


@router.post("/v1/completions")
async def completions(body: CompletionBody, http: HttpRequest) -> Response:
    """Continue one or several texts."""
    settings = service_of(http).settings
    count = len(body.prompts)
    if count > settings.max_prompts:
        raise bad_request(f"There are {count} prompts. Give at most {settings.max_prompts}.", "prompt")
    check_choices(body.n, settings)
    if body.best_of not in (None, body.n):
        raise bad_request("best_of is not supported, unless it equals n.", "best_of")
    if body.echo and body.logprobs is not None:
        raise bad_request("Log-probabilities of the prompt are not supported: omit echo.", "echo")

    def prepare(model: ServedModel, grammar: Grammar | None) -> list[Request]:
        return [completion_request(body, prompt, grammar, model, settings) for prompt in body.prompts]

    grammar = format_grammar(body.response_format)
    return await respond(http, body, count * body.n, grammar, prepare, partial(CompletionWriter, body))


def completion_request(
    body: CompletionBody,
    prompt: str | list[int],
    grammar: Grammar | None,
    model: ServedModel,
    settings: ServerSettings,
) -> Request:
    """What the engine is asked for by one of a body's prompts. Raises `ApiError` if the model cannot continue it."""
    engine = model.engine
    ids = encoded(prompt, engine, "prompt")
    return Request(
        ids,
        sampling_settings(body, engine, answer_tokens(body.max_tokens, len(ids), engine.context, settings)),
        body.n,
        grammar,
        logprobs=body.logprobs,
        continues=len(ids) > len(engine.tokenizer.start_ids),
        bias=logit_bias(body.logit_bias, engine.tokenizer),
        heal=body.token_healing and isinstance(prompt, str),
    )


class CompletionWriter(ChoicesWriter):
    id_prefix, object, chunk_object = "cmpl", "text_completion", "text_completion"

    def __init__(self, body: CompletionBody, answer: AnswerStream) -> None:
        super().__init__(body, answer, parse_calls=False)
        self._body, tokenizer = body, answer.model.engine.tokenizer
        self._echoes = [
            prompt if isinstance(prompt, str) else tokenizer.decode(prompt) for prompt in body.prompts if body.echo
        ]
        self._logprobs = [CompletionLogprobs(tokenizer) for _ in range(answer.count)]
        self._templates = [
            EventTemplate(lambda text, number=number: self.chunk_value(number, {"text": text}))
            for number in range(answer.count if body.stream else 0)
        ]

    def choice(self, number: int, sample: ToolCallCollector) -> dict[str, Any]:
        logprobs = None if self._body.logprobs is None else self._logprobs[number].format(sample.scores)
        return {"text": self._echo(number) + sample.text, "logprobs": logprobs}

    def chunks(self, number: int, piece: Piece, sample: ToolCallCollector) -> Iterator[bytes]:
        if self._body.echo and not sample.begun:
            yield self._templates[number].render(self._echo(number))
        sample.take(piece)
        if self._body.logprobs is not None:
            logprobs = self._logprobs[number].format(piece.scores)
            yield event(self.chunk_value(number, {"text": piece.text}, logprobs, sample.finish_reason))
            return
        if piece.text:
            yield self._templates[number].render(piece.text)
        if piece.finish:
            yield event(self.chunk_value(number, {"text": ""}, finish=sample.finish_reason))

    def _echo(self, number: int) -> str:
        return self._echoes[number // self._body.n] if self._body.echo else ""
