"""What the tool-call loop needs of a model, and our engine as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
import xxhash

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Piece, Request, Usage
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tool_grammar import tools_grammar
from tinyslm.inference.tools.policy import Choice
from tinyslm.inference.vetting import untrusted_grammars

Message = Mapping[str, Any]


class PromptTooLong(TinyslmError):
    """The conversation, with room for an answer, does not fit the model's context."""


class Answer(Protocol):
    """One answer under way; its text holds tool calls as `tokenizer.tool_calls` describes. `usage` counts tokens."""

    usage: Usage

    def __iter__(self) -> Iterator[Piece]:
        """The pieces as they come."""

    def cancel(self) -> None:
        """End it soon; it finishes as "cancelled"."""


class ChatModel(Protocol):
    """A model with the tools that it may call.

    Attributes: `name`, of what computes; `checksum` of its weights, "" where it is not known; `settings`: how text is
    drawn; `result_tokens`: the longest result of a tool that it reads, unless limits say otherwise.
    """

    name: str
    settings: SamplingSettings
    result_tokens: int

    @property
    def checksum(self) -> str: ...

    def chat(self, messages: Sequence[Message], settings: SamplingSettings, choice: Choice) -> Answer:
        """Answer a conversation, in which `choice` says about tool calls. Raises `PromptTooLong`."""

    def shorten(self, text: str, tokens: int) -> str:
        """The beginning of a text that has more than so many tokens, and a remark that it is cut off."""


class EngineChat:
    """An engine as a `ChatModel`: a grammar made of the tools' schemas leaves no room for malformed calls."""

    def __init__(
        self,
        engine: Engine,
        tools: Sequence[Mapping[str, Any]],
        settings: SamplingSettings,
        *,
        parallel: bool = True,
        call_first: bool = False,
    ) -> None:
        """Fields of the settings that are not given are the model's defaults. parallel: several calls in one step.
        call_first: whether "required" will be chosen. Raises `TinyslmError` for schemas that no grammar can express.
        """
        self.name, self.settings = engine.name, engine.with_defaults(settings)
        self.result_tokens = max(16, engine.context // 4)
        self._engine, self._tools = engine, tools
        self._grammars: dict[Choice, Grammar | None] = {}
        choices: list[Choice] = ["auto", "required"] if call_first else ["auto"]
        for choice in choices if tools else ():
            with untrusted_grammars():  # tools of MCP servers bring schemas of their own
                self._grammars[choice] = tools_grammar(tools, choice, parallel=parallel, tokenizer=engine.tokenizer)

    @cached_property
    def checksum(self) -> str:
        """Hash of the weights as they lie in memory (XXH3)."""
        digest = xxhash.xxh3_128()
        for name, tensor in sorted(self._engine.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def grammar(self, choice: Choice) -> Grammar | None:
        """What the model may write in a step; `None`: anything, as nothing in it is taken for a call."""
        return self._grammars.get(choice)

    def chat(self, messages: Sequence[Message], settings: SamplingSettings, choice: Choice) -> Answer:
        """See `ChatModel`; at least a quarter of the context is left for the answer, or as much as it may take."""
        ids, context = self._engine.chat_ids(messages, self._tools), self._engine.context
        room = min(settings.max_tokens, context // 4)
        if len(ids) + room > context:
            raise PromptTooLong(
                f"The conversation has {len(ids)} tokens, and the answer may need {room}; this model's context is "
                f"{context}.",
                "Give a shorter task, fewer tools, or a model with a longer context.",
            )
        return self._engine.submit(Request(ids, settings, grammar=self.grammar(choice), continues=False))

    def shorten(self, text: str, tokens: int) -> str:
        """See `ChatModel`."""
        tokenizer = self._engine.tokenizer
        ids = tokenizer.encode(text[: 64 * tokens])  # few tokens have more characters
        if len(ids) <= tokens and len(text) <= 64 * tokens:
            return text
        return cut_off(tokenizer.decode(ids[:tokens]).rstrip("\ufffd"), text)


def cut_off(beginning: str, whole: str) -> str:
    """The beginning of a text, with a remark that it is cut off."""
    return f"{beginning}\n... (cut off: {len(whole)} characters in all)"
