"""A model as an MCP server: its tools complete, chat, classify and extract, for any program that speaks MCP."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

from pydantic import BaseModel, Field

from tinyslm.agents.classifying import QUESTION, classify, question_ids
from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.inference.engine import Engine
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Completion, Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.stop import LONGEST_STOP, MOST_STOPS
from tinyslm.inference.vetting import untrusted_grammars

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from tinyslm.tokenizer.tokenizer import Tokenizer

MOST_TOKENS = 4_096  # of one answer
MOST_LABELS = 100
LONGEST_TEXT = 1_000_000  # characters

P = ParamSpec("P")
R = TypeVar("R")

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Stop = Annotated[str, Field(max_length=LONGEST_STOP)]
MaxTokens = Annotated[int, Field(ge=1, le=MOST_TOKENS, description="Most tokens to generate.")]
Temperature = Annotated[float | None, Field(ge=0, le=10, description="0: the likeliest token; null: the default.")]
Seed = Annotated[int | None, Field(ge=0, lt=2**53, description="Makes the draws repeatable.")]


class Message(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class LabelScore(BaseModel):
    """A label, and its share of the probability."""

    label: str
    score: float


class Classified(BaseModel):
    """The likeliest label, and all of them, the likeliest one first; the scores sum to 1."""

    label: str
    scores: list[LabelScore]


def mcp_server(engine: Engine) -> MCPServer:
    """An MCP server over an engine that works in a thread of its own; `run("stdio")` serves it."""
    try:
        from mcp.server import MCPServer
    except ImportError:
        raise require_extra("agents", "Being an MCP server") from None
    server: MCPServer = MCPServer(
        "tinyslm",
        version=version("tinyslm"),
        instructions="A small language model that runs on this computer.",
        log_level="WARNING",
    )
    tools = _Tools(engine)
    for function in (tools.complete, tools.chat, tools.classify, tools.extract):
        server.add_tool(_with_errors(function))
    return server


class _Tools:
    """The tools' functions; their docstrings are what clients read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def complete(
        self,
        prompt: Text,
        max_tokens: MaxTokens = 200,
        temperature: Temperature = None,
        stop: Annotated[list[Stop], Field(max_length=MOST_STOPS, description="Texts that end the generation.")] = [],  # noqa: B006
        seed: Seed = None,
    ) -> str:
        """Continue a text with the model."""
        settings = self._settings(temperature, max_tokens=max_tokens, stop=tuple(stop), seed=seed)
        return (await self._whole(self._engine.completion_request(prompt, settings))).text

    async def chat(
        self,
        messages: Annotated[list[Message], Field(min_length=1, max_length=1_000)],
        max_tokens: MaxTokens = 200,
        temperature: Temperature = None,
        seed: Seed = None,
    ) -> str:
        """Answer a conversation with the model; it must be one that was made for chatting."""
        settings = self._settings(temperature, max_tokens=max_tokens, seed=seed)
        ids = self._engine.chat_ids([one.model_dump() for one in messages])
        return (await self._whole(Request(ids, settings, continues=False))).text

    def _settings(self, temperature: float | None, **given: Any) -> SamplingSettings:
        """The settings that were given, and the model's defaults for the others."""
        if temperature is not None:
            given["temperature"] = temperature
        return self._engine.with_defaults(SamplingSettings(**given))

    async def classify(
        self,
        text: Text,
        labels: Annotated[list[str], Field(min_length=2, max_length=MOST_LABELS)],
        question: Annotated[str, Field(description="What the labels say of the text.")] = QUESTION,
    ) -> Classified:
        """Choose the label that the model finds likeliest for a text, with a score for each label."""
        from anyio.to_thread import run_sync

        scored = await run_sync(functools.partial(classify, self._engine, text, labels, question))
        scores = [LabelScore(label=one.label, score=one.score) for one in scored]
        return Classified(label=scored[0].label, scores=scores)

    async def extract(
        self,
        text: Text,
        schema: Annotated[dict[str, Any], Field(description="JSON schema of what is wanted, an object.")],
        instruction: Annotated[str, Field(description="What to read from the text.")] = "Read the data from the text.",
        max_tokens: MaxTokens = 512,
    ) -> dict[str, Any]:
        """Read data from a text, in the form of a JSON schema."""
        from anyio.to_thread import run_sync

        if schema.get("type") != "object":
            raise TinyslmError("The schema is not one of an object.", 'Give one with "type": "object".')
        tokenizer = self._engine.tokenizer
        grammar = await run_sync(functools.partial(_vetted, schema, tokenizer))
        asked = f"{instruction}\nAnswer as JSON with this schema: {json.dumps(schema)}\n\nText:\n{text}"
        settings = SamplingSettings(max_tokens=max_tokens, temperature=0.0)
        request = Request(question_ids(self._engine, asked), settings, grammar=grammar, continues=False)
        completion = await self._whole(request)
        try:
            value: dict[str, Any] = json.loads(completion.text)
        except ValueError:
            raise TinyslmError(f"The answer did not end within {max_tokens} tokens.", "Give more max_tokens.") from None
        return value

    async def _whole(self, request: Request) -> Completion:
        """What the engine generates; nothing more, once the client does not want it any longer."""
        from anyio.to_thread import run_sync

        generation = self._engine.submit(request)
        try:
            (completion,) = await run_sync(generation.whole, abandon_on_cancel=True)
        finally:
            generation.cancel()
        return completion


def _vetted(schema: dict[str, Any], tokenizer: Tokenizer) -> Grammar:
    with untrusted_grammars():
        return Grammar.json_schema(schema, tokenizer)


def _with_errors(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """The same; its errors become messages to the client."""
    from mcp.server.mcpserver.exceptions import ToolError

    @functools.wraps(function)
    async def answer(*values: P.args, **named: P.kwargs) -> R:
        try:
            return await function(*values, **named)
        except TinyslmError as error:
            raise ToolError(f"{error.problem} {error.remedy}") from None

    return answer
