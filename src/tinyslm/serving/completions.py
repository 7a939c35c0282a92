"""/v1/completions."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Piece, Request, TokenScore
from tinyslm.serving.bridge import Answer
from tinyslm.serving.chat import usage
from tinyslm.serving.errors import bad_request
from tinyslm.serving.formats import grammar_of
from tinyslm.serving.models import Served
from tinyslm.serving.prompting import answer_tokens, bias, check_ids, prompt_ids, sampling
from tinyslm.serving.scores import LEAST
from tinyslm.serving.service import service_of
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.shapes.completions import CompletionBody
from tinyslm.serving.streaming import EventStream
from tinyslm.serving.wire import DONE, MARK, Json, around_text, event, finish_reason, new_id, quoted
from tinyslm.tokenizer.tokenizer import Tokenizer

router = APIRouter()


@router.post("/v1/completions")
async def completions(body: CompletionBody, http: HttpRequest) -> Response:
    """Go on from one or several texts."""
    service = service_of(http)
    prompts = body.prompts
    _check(body, prompts, service.settings)
    answer, writer = await service.begin(
        http,
        body,
        len(prompts) * body.n,
        lambda served: _requests(body, prompts, served, service.settings),
        lambda answer: _Writer(body, prompts, answer),
    )
    if body.stream:
        return EventStream(answer, writer.write, writer.end)
    async with service.answering(http, answer):
        async for pieces in answer:
            writer.take(pieces)
    return Json(writer.whole())


def _check(body: CompletionBody, prompts: Sequence[object], settings: ServerSettings) -> None:
    if len(prompts) > settings.max_prompts:
        raise bad_request(f"There are {len(prompts)} prompts; {settings.max_prompts} are possible.", "prompt")
    if body.n > settings.max_choices:
        raise bad_request(f"n is {body.n}; {settings.max_choices} are possible.", "n")
    if body.best_of not in (None, body.n):
        raise bad_request("best_of is not supported, unless it is n.", "best_of")
    if body.echo and body.logprobs is not None:
        raise bad_request("Probabilities of the prompt's tokens are not supported: leave out echo.", "echo")


def _requests(
    body: CompletionBody, prompts: Sequence[str | list[int]], served: Served, settings: ServerSettings
) -> list[Request]:
    engine = served.engine
    grammar = grammar_of(body.response_format, served)
    biases = bias(body.logit_bias, engine.tokenizer)
    requests = []
    for prompt in prompts:
        ids = _ids(prompt, engine)
        requests.append(
            Request(
                ids,
                sampling(body, engine, answer_tokens(body.max_tokens, len(ids), engine.context, settings)),
                body.n,
                grammar,
                logprobs=body.logprobs,
                continues=len(ids) > len(engine.tokenizer.start_ids),
                bias=biases,
                heal=body.token_healing and isinstance(prompt, str),
            )
        )
    return requests


def _ids(prompt: str | list[int], engine: Engine) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return prompt_ids(prompt, engine, "prompt")
    if not prompt:
        return engine.prompt_ids("")
    return check_ids(prompt, engine.tokenizer, "prompt")


class _Writer:
    """The texts in OpenAI's words, whole or in chunks."""

    def __init__(self, body: CompletionBody, prompts: Sequence[str | list[int]], answer: Answer) -> None:
        self._body, self._answer = body, answer
        self._common = {
            "id": new_id("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": answer.served.name,
        }
        tokenizer = answer.served.engine.tokenizer
        self._texts: list[list[str]] = [[] for _ in range(answer.count)]
        self._finish: list[str | None] = [None] * answer.count
        self._scores = [_Scores(tokenizer) for _ in range(answer.count)]
        if body.echo:
            for number, texts in enumerate(self._texts):
                prompt = prompts[number // body.n]
                texts.append(prompt if isinstance(prompt, str) else tokenizer.decode(prompt))
        self._echoed = [not body.echo] * answer.count
        self._plain = [self._skeleton(number) for number in range(answer.count)] if body.stream else []

    def take(self, pieces: Sequence[tuple[int, Piece]]) -> None:
        """Keep some pieces for the whole answer."""
        for number, piece in pieces:
            self._texts[number].append(piece.text)
            self._finish[number] = finish_reason(piece.finish)
            self._scores[number].add(piece.scores)

    def whole(self) -> dict[str, Any]:
        """The whole answer."""
        choices = [
            {
                "index": number,
                "text": "".join(texts),
                "logprobs": None if self._body.logprobs is None else self._scores[number].take(),
                "finish_reason": self._finish[number],
            }
            for number, texts in enumerate(self._texts)
        ]
        return {**self._common, "choices": choices, "usage": usage(self._answer.usage)}

    def write(self, pieces: Sequence[tuple[int, Piece]]) -> bytes:
        """The chunks for some pieces."""
        return b"".join(line for number, piece in pieces for line in self._lines(number, piece))

    def end(self) -> bytes:
        """The last chunks."""
        if not self._body.tells_usage:
            return DONE
        return event({**self._common, "choices": [], "usage": usage(self._answer.usage)}) + DONE

    def _lines(self, number: int, piece: Piece) -> Iterator[bytes]:
        if not self._echoed[number]:
            self._echoed[number] = True
            yield self._chunk(number, "".join(self._texts[number]))
        if self._body.logprobs is not None:
            self._scores[number].add(piece.scores)
            yield self._chunk(number, piece.text, self._scores[number].take(), finish_reason(piece.finish))
            return
        if piece.text:
            before, after = self._plain[number]
            yield before + quoted(piece.text) + after
        if piece.finish:
            yield self._chunk(number, "", finish=finish_reason(piece.finish))

    def _chunk(self, number: int, text: str, scores: Any = None, finish: str | None = None) -> bytes:
        choice = {"index": number, "text": text, "logprobs": scores, "finish_reason": finish}
        used = {"usage": None} if self._body.tells_usage else {}
        return event({**self._common, "choices": [choice], **used})

    def _skeleton(self, number: int) -> tuple[bytes, bytes]:
        """A chunk with some text, as what stands before the text and after it."""
        return around_text(self._chunk(number, MARK))


class _Scores:
    """Log-probabilities as plain completions tell them: one list for each thing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0
        self._lists: dict[str, list[Any]] = {}
        self.take()

    def add(self, scores: Sequence[TokenScore]) -> None:
        """Some tokens more."""
        for score in scores:
            skip = score.repeats
            self._lists["tokens"].append(self._name(score.id, skip))
            self._lists["token_logprobs"].append(max(LEAST, score.logprob))
            top = {self._name(token, skip): max(LEAST, value) for token, value in score.top}
            self._lists["top_logprobs"].append(top)
            self._lists["text_offset"].append(self._length)
            self._length += len(self._decoder.decode(self._tokenizer.token_bytes(score.id)[skip:]))

    def take(self) -> dict[str, list[Any]]:
        """What was added since the last time."""
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        taken, self._lists = self._lists, {name: [] for name in names}
        return taken

    def _name(self, token: int, skip: int) -> str:
        """The token's text after `skip` bytes; incomplete characters are spelled out, so that names differ."""
        spelled = self._tokenizer.token_bytes(token)[skip:]
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)
