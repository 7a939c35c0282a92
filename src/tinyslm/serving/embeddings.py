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
from tinyslm.serving.encoding import JsonResponse
from tinyslm.serving.errors import bad_request, too_slow
from tinyslm.serving.prompting import check_ids, conversation_ids, encoded
from tinyslm.serving.request_log import log_of
from tinyslm.serving.schemas.texts import DetokenizeBody, EmbeddingBody, TokenizeBody, one_by_one
from tinyslm.serving.service import service_of

router = APIRouter()


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingBody, http: HttpRequest) -> Response:
    """A vector for each text: the mean of the model's final hidden states, scaled to length 1.

    The model was not trained to compare texts: the vectors indicate only rough similarity.
    """
    service, inputs = service_of(http), one_by_one(body.input)
    limit, seconds = service.settings.max_prompts, service.settings.max_seconds
    if not 0 < len(inputs) <= limit:
        raise bad_request(f"There are {len(inputs)} texts. Give between 1 and {limit}.", "input")
    vectors: list[NDArray[Any]] = []
    tokens = 0
    try:
        async with asyncio.timeout(seconds), service.using(http, body.model) as model:
            for text in inputs:
                ids = await service.in_thread(lambda: _checked_ids(text, model.engine))  # noqa: B023  (awaited at once)
                vectors.append(await service.in_thread(lambda: model.engine.embed(ids)))  # noqa: B023
                tokens += len(ids)
                if await http.is_disconnected():
                    break
    except TimeoutError:
        raise too_slow(seconds) from None
    log_of(http.scope).usage = Usage(tokens)
    data = [
        {"object": "embedding", "index": index, "embedding": _normalized(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JsonResponse({"object": "list", "data": data, "model": body.model, "usage": usage})


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, http: HttpRequest) -> Response:
    """The token ids of a text, or of a conversation up to where the model answers."""
    service = service_of(http)
    async with service.using(http, body.model) as model:
        ids = await service.in_thread(lambda: _ids(body, model.engine))
        result: dict[str, Any] = {"count": len(ids), "max_model_len": model.engine.context, "tokens": ids}
        if body.return_token_strs:
            tokenizer = model.engine.tokenizer
            result["token_strs"] = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids]
    return JsonResponse(result)


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, http: HttpRequest) -> Response:
    """The text of token ids."""
    service = service_of(http)
    async with service.using(http, body.model) as model:
        ids = check_ids(body.tokens, model.engine.tokenizer, "tokens")
        return JsonResponse({"prompt": await service.in_thread(lambda: model.engine.tokenizer.decode(ids))})


def _checked_ids(text: str | list[int], engine: Engine) -> tuple[int, ...]:
    ids = encoded(text, engine, "input")
    if len(ids) > engine.context:
        message = f"A text has {len(ids)} tokens. Give at most {engine.context}."
        raise bad_request(message, "input", "context_length_exceeded")
    return ids


def _normalized(vector: NDArray[Any], encoding: str) -> list[float] | str:
    length = float(np.linalg.norm(vector))
    scaled = (vector / (length or 1.0)).astype("<f4")
    return base64.b64encode(scaled.tobytes()).decode() if encoding == "base64" else scaled.tolist()


def _ids(body: TokenizeBody, engine: Engine) -> list[int]:
    if body.messages is not None:
        return list(conversation_ids(body.messages, body.tools, engine))
    start = engine.tokenizer.start_ids if body.add_special_tokens else ()
    return [*start, *engine.tokenizer.encode(body.prompt or "")]
