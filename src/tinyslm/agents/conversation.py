"""The conversation of an agent: what the model reads at each step, within its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyslm.agents.running import Call, Outcome
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine

LEFT_OUT = "(left out, as the conversation has grown too long)"


class Conversation:
    """Messages, with what tools gave as messages of their own, in the role "tool"."""

    def __init__(
        self,
        engine: Engine,
        tools: Sequence[Mapping[str, Any]],
        messages: Sequence[Mapping[str, Any]],
        result_tokens: int | None,
    ) -> None:
        self.messages = [dict(message) for message in messages]
        self._engine, self._tools = engine, tools
        self._longest = result_tokens or max(16, engine.context // 4)

    def said(self, text: str, calls: Sequence[Call]) -> None:
        """The model said something, and called tools."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
                for call in calls
            ]
        self.messages.append(message)

    def returned(self, call: Call, outcome: Outcome) -> None:
        """A call has ended."""
        text = self._shortened(outcome.text)
        content = f"Error: {text}" if outcome.failed else text
        self.messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content})

    def remark(self, text: str) -> None:
        """Something went wrong with what the model just said, and it is to try again."""
        self.messages.append({"role": "user", "content": text})

    def ids(self, room: int) -> tuple[int, ...]:
        """What the model reads, with `room` tokens left for its answer, or a quarter of the context.

        Where that is too long, results of tools are left out, the oldest first. Raises `TinyslmError` where that does
        not help.
        """
        room = min(room, self._engine.context // 4)
        ids = self._engine.chat_ids(self.messages, self._tools)
        for message in self.messages:
            if len(ids) + room <= self._engine.context:
                return ids
            if message["role"] == "tool" and message["content"] != LEFT_OUT:
                message["content"] = LEFT_OUT
                ids = self._engine.chat_ids(self.messages, self._tools)
        if len(ids) + room > self._engine.context:
            raise TinyslmError(
                f"The conversation has {len(ids)} tokens, and the answer may need {room}; this model's context is "
                f"{self._engine.context}.",
                "Give a shorter task, fewer tools, or a model with a longer context.",
            )
        return ids

    def _shortened(self, text: str) -> str:
        """The beginning of a text that is too long for the model, and how much of it is missing."""
        tokenizer = self._engine.tokenizer
        ids = tokenizer.encode(text[: 64 * self._longest])  # few tokens have more characters
        if len(ids) <= self._longest and len(text) <= 64 * self._longest:
            return text
        begin = tokenizer.decode(ids[: self._longest]).rstrip("\ufffd")
        return f"{begin}\n... (cut off: {len(text)} characters in all)"
