"""/v1/embeddings, /tokenize and /detokenize."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Usage
from tinyslm.serving.errors import ApiError, bad_request
from tinyslm.serving.models import Served
from tinyslm.serving.prompting import check_ids, conversation_ids, prompt_ids
from tinyslm.serving.service import service_of
from tinyslm.serving.shapes.texts import DetokenizeBody, EmbeddingBody, TokenizeBody
from tinyslm.serving.visit import visit_of
from tinyslm.serving.wire import Json

router = APIRouter()


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingBody, http: HttpRequest) -> Response:
    """A vector for each text: the mean of the model's final hidden states, scaled to length 1.

    A language model's states, not those of a model trained to compare texts: good for rough likeness only.
    """
    service = service_of(http)
    inputs, most = body.inputs, service.settings.max_prompts
    if not 0 < len(inputs) <= most:
        raise bad_request(f"There are {len(inputs)} texts; between 1 and {most} are possible.", "input")
    vectors, tokens = [], 0
    try:
        async with asyncio.timeout(service.settings.max_seconds), service.using(http, body.model) as served:
            for text in inputs:
                ids = await service.apart(lambda: _embedded_ids(text, served.engine))  # noqa: B023  (awaited at once)
                vectors.append(await service.apart(lambda: served.engine.embed(ids)))  # noqa: B023
                tokens += len(ids)
                if await http.is_disconnected():
                    break
    except TimeoutError:
        message = f"The answer was not complete after {service.settings.max_seconds:g} seconds."
        raise ApiError(504, message, "time_limit", headers={"x-should-retry": "false"}) from None
    visit_of(http.scope).usage = Usage(tokens)
    data = [
        {"object": "embedding", "index": place, "embedding": _told(vector, body.encoding_format)}
        for place, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Json({"object": "list", "data": data, "model": body.model, "usage": used})


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, http: HttpRequest) -> Response:
    """The token ids of a text, or of a conversation up to where the model would answer."""
    service = service_of(http)
    async with service.using(http, body.model) as served:
        ids = await service.apart(lambda: _ids(body, served))
        found: dict[str, Any] = {"count": len(ids), "max_model_len": served.engine.context, "tokens": ids}
        if body.return_token_strs:
            tokenizer = served.engine.tokenizer
            found["token_strs"] = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids]
    return Json(found)


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, http: HttpRequest) -> Response:
    """The text of token ids."""
    service = service_of(http)
    async with service.using(http, body.model) as served:
        tokenizer = served.engine.tokenizer
        check_ids(body.tokens, tokenizer, "tokens")
        return Json({"prompt": await service.apart(lambda: tokenizer.decode(body.tokens))})


def _embedded_ids(text: str | list[int], engine: Engine) -> tuple[int, ...]:
    ids = prompt_ids(text, engine, "input") if isinstance(text, str) else check_ids(text, engine.tokenizer, "input")
    if not 0 < len(ids) <= engine.context:
        raise bad_request(
            f"A text has {len(ids)} tokens; between 1 and {engine.context} are possible.",
            "input",
            "context_length_exceeded",
        )
    return ids


def _told(vector: NDArray[Any], form: str) -> list[float] | str:
    length = float(np.linalg.norm(vector))
    scaled = (vector / (length or 1.0)).astype("<f4")
    if form == "base64":
        return base64.b64encode(scaled.tobytes()).decode()
    return [float(value) for value in scaled]


def _ids(body: TokenizeBody, served: Served) -> list[int]:
    engine = served.engine
    if body.messages is not None:
        return list(conversation_ids(body.messages, body.tools, engine))
    start = engine.tokenizer.start_ids if body.add_special_tokens else ()
    return [*start, *engine.tokenizer.encode(body.prompt or "")]
