"""`/look` and `/look/attention`: a text as a model reads it, for the page's "look inside" view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import Field, model_validator
from starlette.responses import Response

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine
from tinyslm.serving.errors import full
from tinyslm.serving.prompting import template_messages
from tinyslm.serving.shapes.body import Body, ModelName, Token
from tinyslm.serving.shapes.chat import MOST_MESSAGES, MOST_TOOLS, Message, Tool
from tinyslm.serving.wire import Json

if TYPE_CHECKING:
    from tinyslm.inspection.inspecting import Inspection
    from tinyslm.inspection.inspecting import Token as Shown
    from tinyslm.model.decoder import Decoder
    from tinyslm.serving.models import Models, Served

MOST_WAITING = 8
DECIMALS = 4  # of attention, which may be a hundred thousand numbers


class LookBody(Body):
    """A text, or a conversation, to be looked at."""

    model: ModelName
    text: str | None = Field(default=None, description="The text.")
    messages: list[Message] | None = Field(
        default=None, min_length=1, max_length=MOST_MESSAGES, description="The conversation."
    )
    tools: list[Tool] = Field(default_factory=list, max_length=MOST_TOOLS, description="Tools offered to the model.")
    top: int = Field(default=8, ge=1, le=50, description="How many of the likeliest tokens are told at each place.")

    @model_validator(mode="after")
    def _check_one(self) -> LookBody:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        return self


class AttentionBody(Body):
    """Tokens that were looked at, and a head."""

    model: ModelName
    ids: list[Token] = Field(min_length=1, max_length=2**14, description="The tokens, as /look gave them.")
    layer: int = Field(ge=0, le=2**16, description="Which layer, from 0 on.")
    head: int | None = Field(default=None, ge=0, le=2**16, description="Which head, from 0 on; none: the mean of all.")


def router(models: Models) -> APIRouter:
    """The two routes. They compute in another thread, one request at a time."""
    routes = APIRouter()
    desk = _Desk()

    @routes.post("/look")
    async def look(body: LookBody) -> Response:
        """The tokens of a text: how likely each was, and what else could have stood there."""
        async with desk.turn(), models.use(body.model) as served:
            return Json(await asyncio.to_thread(_look, served, body))

    @routes.post("/look/attention")
    async def look_attention(body: AttentionBody) -> Response:
        """How much each token takes from itself and those before it: a list for each, as long as its place."""
        async with desk.turn(), models.use(body.model) as served:
            return Json(await asyncio.to_thread(_attention, served, body))

    return routes


class _Desk:
    """Where requests wait for their turn: looking inside takes memory and all of the processor."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise full(f"{self._waiting} others want to look inside a model already.")
        self._waiting += 1
        try:
            async with self._lock:
                yield
        finally:
            self._waiting -= 1


def _look(served: Served, body: LookBody) -> dict[str, Any]:
    from tinyslm.inspection.inspecting import LONGEST, inspect

    model, tokenizer = decoder_of(served.engine), served.engine.tokenizer
    ids = _ids(served.engine, body)
    shown = ids[-min(LONGEST, model.config.longest) :]
    found = inspect(model, tokenizer, shown, top=body.top)
    return {"model": served.name, "left_out": len(ids) - len(shown), **_told(found)}


def _told(found: Inspection) -> dict[str, Any]:
    def tops(top: tuple[tuple[Shown, float], ...]) -> list[dict[str, Any]]:
        return [{**asdict(token), "logprob": logprob} for token, logprob in top]

    return {
        "layers": found.layers,
        "heads": found.heads,
        "tokens": [
            {**asdict(one.token), "logprob": one.logprob, "rank": one.rank, "top": tops(one.top)}
            for one in found.tokens
        ],
        "next": tops(found.following),
    }


def _ids(engine: Engine, body: LookBody) -> list[int]:
    """The tokens of a text; those of a conversation as the chat template writes it."""
    if body.messages is None:
        return list(engine.prompt_ids(body.text or ""))
    from tinyslm.inference.tool_calls import reads_tools, with_tools
    from tinyslm.tokenizer.chat import encode_chat

    tools = [tool.model_dump(exclude_none=True) for tool in body.tools]
    messages = with_tools(template_messages(body.messages), tools, engine.tokenizer)
    answered = body.messages[-1].role == "assistant"
    for_template = tools if tools and reads_tools(engine.tokenizer) else None
    return encode_chat(engine.tokenizer, messages, add_generation_prompt=not answered, tools=for_template)


def _attention(served: Served, body: AttentionBody) -> dict[str, Any]:
    from tinyslm.inspection.inspecting import attention

    weights_tt = attention(decoder_of(served.engine), body.ids, body.layer, body.head).round(DECIMALS)
    rows = [[float(f"{x:.{DECIMALS}f}") for x in row[: place + 1].tolist()] for place, row in enumerate(weights_tt)]
    return {"model": served.name, "layer": body.layer, "head": body.head, "weights": rows}


def decoder_of(engine: Engine) -> Decoder:
    """The model behind an engine. Raises `TinyslmError` where there is none to look into."""
    from tinyslm.model.decoder import Decoder

    model = getattr(engine, "model", None)
    if not isinstance(model, Decoder):
        raise TinyslmError(
            f"The {engine.name} engine computes in another program, which does not show what goes on inside.",
            "Serve the model folder itself to look inside.",
        )
    return model
