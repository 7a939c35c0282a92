"""Constraints on answers as grammars: response formats and calls of tools, compiled once per model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.tool_grammar import tools_grammar
from tinyslm.inference.vetting import untrusted_grammars
from tinyslm.serving.errors import bad_request, full
from tinyslm.serving.models import ServedModel
from tinyslm.serving.schemas.chat import JsonSchemaFormat, Tool
from tinyslm.serving.schemas.common import (
    ChoiceFormat,
    JsonObjectFormat,
    LarkFormat,
    NamedSchema,
    Part,
    RegexFormat,
    TextFormat,
)
from tinyslm.tokenizer.tokenizer import Tokenizer

COMPILER_THREADS = 2
MAX_PENDING = 64
"""New grammars that are being compiled or wait for it; each may take a second or two."""

CACHED_GRAMMARS = 64
"""Compiled grammars that are cached per model."""


@dataclass(frozen=True)
class GrammarSpec:
    """A grammar to be compiled: its cache key, and the field of the request that it comes from."""

    key: str
    compile: Callable[[Tokenizer], Grammar | None]
    param: str


def format_grammar(response_format: Part | None, param: str = "response_format") -> GrammarSpec | None:
    """The grammar of a response format; `None`: any text."""
    match response_format:
        case None | TextFormat():
            return None
        case JsonObjectFormat():
            constraint = OutputConstraint("schema", {"type": "object"})
        case RegexFormat(pattern=pattern):
            constraint = OutputConstraint("regex", pattern)
        case ChoiceFormat(choices=choices):
            constraint = OutputConstraint("choice", choices)
        case LarkFormat(grammar=text):
            constraint = OutputConstraint("grammar", text)
        case JsonSchemaFormat(json_schema=named) | (NamedSchema() as named):
            constraint = OutputConstraint("schema", named.schema_)
    return GrammarSpec(constraint.key, constraint.compile, param)


def conversation_grammar(
    tools: Sequence[Tool], choice: str, parallel: bool, response_format: Part | None, param: str = "response_format"
) -> GrammarSpec | None:
    """The grammar of an answer in a conversation: calls of tools, or a response format; `None`: any text.

    param: the field of `response_format`. Raises `ApiError` if tools and a format contradict each other.
    """
    if not tools or choice == "none":
        return format_grammar(response_format, param)
    if choice == "auto" and response_format is not None and not isinstance(response_format, TextFormat):
        raise bad_request(
            "A response format together with tools needs a tool_choice of required, none, or a tool's name.",
            "tool_choice",
        )
    listed = plain_tools(tools)
    key = f"tools {choice} {parallel} {json.dumps(listed)}"
    return GrammarSpec(key, lambda tokenizer: tools_grammar(listed, choice, parallel, tokenizer), "tools")


def plain_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as chat templates and grammars read them."""
    return [tool.model_dump(exclude_none=True) for tool in tools]


class GrammarCompiler:
    """Compiles grammars in separate threads, so that no other request waits for them.

    Attributes: `pending`: how many are being compiled or wait for it.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._threads = ThreadPoolExecutor(COMPILER_THREADS, "tinyslm-grammars")

    async def get(self, spec: GrammarSpec, model: ServedModel) -> Grammar | None:
        """The grammar for a model, from its cache if possible.

        Raises `ApiError` for an invalid or unsupported grammar, and if too many others are pending.
        """
        if spec.key not in model.grammars:
            self._begin(spec, model)
        model.grammars.move_to_end(spec.key)
        try:
            return await asyncio.shield(model.grammars[spec.key])
        except TinyslmError as error:
            raise bad_request(f"{error.problem} {error.remedy}", spec.param) from error

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def _begin(self, spec: GrammarSpec, model: ServedModel) -> None:
        if self.pending >= MAX_PENDING:
            raise full(f"{self.pending} new grammars are already waiting to be compiled. Try again in a moment.")

        def finished(future: asyncio.Future[Grammar | None]) -> None:
            self.pending -= 1
            if future.cancelled() or future.exception() is not None:
                model.grammars.pop(spec.key, None)

        self.pending += 1
        compile_it = partial(_compile_untrusted, spec, model.engine.tokenizer)
        future = asyncio.get_running_loop().run_in_executor(self._threads, compile_it)
        future.add_done_callback(finished)
        model.grammars[spec.key] = future
        while len(model.grammars) > CACHED_GRAMMARS:
            model.grammars.popitem(last=False)


def _compile_untrusted(spec: GrammarSpec, tokenizer: Tokenizer) -> Grammar | None:
    with untrusted_grammars():
        return spec.compile(tokenizer)
