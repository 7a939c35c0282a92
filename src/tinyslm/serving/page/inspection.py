"""`/look` and `/look/attention`: probabilities and attention, for the page's "look inside" view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import Field, model_validator
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.engine import Engine
from tinyslm.inspection import inspecting
from tinyslm.inspection.token_kinds import loss_by_kind, token_kind
from tinyslm.serving.constraints import plain_tools
from tinyslm.serving.encoding import JsonResponse
from tinyslm.serving.models import ServedModel
from tinyslm.serving.schemas.common import Body, ModelName, Token
from tinyslm.serving.schemas.texts import Messages, Tools
from tinyslm.serving.service import service_of
from tinyslm.tokenizer import shown as shown_tokens
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tool_calls import for_template

DECIMALS = 4  # of attention, which may be a hundred thousand numbers

router = APIRouter()


class LookBody(Body):
    model: ModelName
    text: str | None = Field(default=None, description="The text.")
    messages: Messages | None = Field(default=None, description="The conversation.")
    tools: Tools = Field(default_factory=list, description="Tools offered to the model.")
    top: int = Field(default=8, ge=1, le=50, description="Number of likeliest tokens to return at each position.")

    @model_validator(mode="after")
    def _check_one(self) -> LookBody:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        return self


class AttentionBody(Body):
    """Tokens of an inspection, and a head."""

    model: ModelName
    ids: list[Token] = Field(min_length=1, max_length=2**14, description="The tokens, as returned by /look.")
    layer: int = Field(ge=1, le=2**16, description="The layer, from 1 on.")
    head: int | None = Field(default=None, ge=1, le=2**16, description="The head, from 1 on; null: the mean of all.")


@router.post("/look")
async def look(body: LookBody, http: HttpRequest) -> Response:
    """The tokens of a text, the probability of each, and the likeliest alternatives."""
    async with _inspecting(http, body.model) as model:
        return JsonResponse(await asyncio.to_thread(_look, model, body))


@router.post("/look/attention")
async def look_attention(body: AttentionBody, http: HttpRequest) -> Response:
    """The attention weights of each token over itself and the tokens before it."""
    async with _inspecting(http, body.model) as model:
        return JsonResponse(await asyncio.to_thread(_attention, model, body))


@asynccontextmanager
async def _inspecting(http: HttpRequest, name: str) -> AsyncIterator[ServedModel]:
    """A model for one inspection at a time: it takes memory and all of the processor."""
    service = service_of(http)
    with service.inspections.admit(1):
        async with service.inspection_lock, service.models.use(name) as model:
            yield model


def _look(served: ServedModel, body: LookBody) -> dict[str, Any]:
    engine = served.engine
    ids = _ids(engine, body)
    shown = ids[-min(inspecting.LONGEST, engine.model.config.longest) :]
    found = inspecting.inspect(engine.model, engine.tokenizer, shown, top=body.top)

    def alternatives(top: tuple[tuple[shown_tokens.Token, float], ...]) -> list[dict[str, Any]]:
        return [{**asdict(token), "logprob": logprob} for token, logprob in top]

    return {
        "model": served.name,
        "left_out": len(ids) - len(shown),
        "layers": found.layers,
        "heads": found.heads,
        "tokens": [
            {
                **asdict(one.token),
                "token_kind": token_kind(one.token),
                "logprob": one.logprob,
                "rank": one.rank,
                "top": alternatives(one.top),
            }
            for one in found.tokens
        ],
        "loss_by_kind": [{**asdict(one), "bits_per_token": one.bits_per_token} for one in loss_by_kind(found.tokens)],
        "next": alternatives(found.following),
    }


def _ids(engine: Engine, body: LookBody) -> list[int]:
    """The tokens of a text, or those of a conversation as the chat template renders it."""
    if body.messages is None:
        return list(engine.prompt_ids(body.text or ""))
    given = [message.for_template() for message in body.messages]
    messages, tools = for_template(given, plain_tools(body.tools), engine.tokenizer)
    answered = body.messages[-1].role == "assistant"
    return encode_chat(engine.tokenizer, messages, add_generation_prompt=not answered, tools=tools)


def _attention(served: ServedModel, body: AttentionBody) -> dict[str, Any]:
    weights_tt = inspecting.attention(served.engine.model, body.ids, body.layer, body.head).round(DECIMALS)
    rows = [[float(f"{x:.{DECIMALS}f}") for x in row[: index + 1].tolist()] for index, row in enumerate(weights_tt)]
    return {"model": served.name, "layer": body.layer, "head": body.head, "weights": rows}
