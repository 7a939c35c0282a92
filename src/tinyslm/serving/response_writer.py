"""A response of /v1/responses: its output items as they grow, and the events that report them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from tinyslm.inference.call_stream import ArgumentsDelta, CallEvent, CallStart, TextDelta
from tinyslm.inference.request import Piece, Usage
from tinyslm.inference.tool_call_collector import ToolCallCollector
from tinyslm.serving.answers import AnswerStream
from tinyslm.serving.encoding import event
from tinyslm.serving.errors import ApiError
from tinyslm.serving.prompting import sampling_settings
from tinyslm.serving.schemas.chat import FunctionCall, Message, ToolCall
from tinyslm.serving.schemas.responses import ResponseBody
from tinyslm.serving.writers import AnswerWriter

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The reason why a response is incomplete, by its finish reason."""

_PLAIN_TEXT = {"format": {"type": "text"}}


class ResponseWriter(AnswerWriter):
    """Takes pieces, and returns events; `whole` is the response so far."""

    def __init__(self, body: ResponseBody, answer: AnswerStream, store: Callable[[ResponseWriter], None]) -> None:
        """store: called at the end, to store the response."""
        self._body, self._answer, self._store = body, answer, store
        self._settings = sampling_settings(body, answer.model.engine)
        self._sample = ToolCallCollector(parse_calls=bool(body.tools) and body.tool_choice != "none")
        self._id, self._created = f"resp_{secrets.token_hex(16)}", int(time.time())
        self._items: list[dict[str, Any]] = []
        self._open = False
        self._number = 0
        self._status = "in_progress"
        self._error: dict[str, Any] | None = None

    def write(self, number: int, piece: Piece) -> bytes:  # noqa: ARG002
        events = []
        if not self._sample.begun:
            events += [self._event("response.created"), self._event("response.in_progress")]
        for part in self._sample.take(piece):
            events += self._part_events(part)
        if piece.finish:
            if not self._items:
                events += self._part_events(TextDelta(""))
            events += self._close_item()
            self._status = "incomplete" if self._sample.finish_reason in _INCOMPLETE else "completed"
        return b"".join(events)

    def end(self) -> bytes:
        self._store(self)
        return self._event(f"response.{self._status}")

    def fail(self, error: ApiError) -> bytes:
        self._status, self._error = "failed", {"code": "server_error", "message": error.message}
        return self._event("response.failed")

    def message(self) -> Message:
        calls = [
            ToolCall(id=call.id, function=FunctionCall(name=call.name, arguments=call.arguments))
            for call in self._sample.calls
        ]
        return Message(role="assistant", content=self._sample.text, tool_calls=calls or None)

    def whole(self) -> dict[str, Any]:
        body, reason = self._body, _INCOMPLETE.get(self._sample.finish_reason or "")
        ended = self._status in ("completed", "incomplete")
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": self._status,
            "error": self._error,
            "incomplete_details": {"reason": reason} if self._status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata,
            "model": self._answer.model.name,
            "output": self._items,
            "parallel_tool_calls": body.parallel_tool_calls,
            "previous_response_id": body.previous_response_id,
            "reasoning": None,
            "store": body.store,
            "temperature": self._settings.temperature,
            "text": body.text.model_dump(by_alias=True) if body.text and body.text.format else _PLAIN_TEXT,
            "tool_choice": body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.model_dump(),
            "tools": [tool.model_dump() for tool in body.tools],
            "top_p": self._settings.top_p,
            "truncation": body.truncation,
            "usage": _usage(self._answer.usage) if ended else None,
        }

    def _part_events(self, part: CallEvent) -> list[bytes]:
        """The events for some text, the beginning of a call, or some of its arguments."""
        match part:
            case TextDelta(text):
                begun = [] if self._open and self._items[-1]["type"] == "message" else self._begin_message()
                self._items[-1]["content"][0]["text"] += text
                return [*begun, self._content_event("response.output_text.delta", delta=text, logprobs=[])]
            case CallStart(index, name):
                call = {"call_id": self._sample.calls[index].id, "name": name, "arguments": ""}
                return self._begin_item("fc", "function_call", call)
            case ArgumentsDelta(_, text):
                self._items[-1]["arguments"] += text
                return [self._item_event("response.function_call_arguments.delta", delta=text)]
        return []

    def _begin_message(self) -> list[bytes]:
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        begun = self._begin_item("msg", "message", {"role": "assistant", "content": []})
        self._items[-1]["content"].append(part)
        return [*begun, self._content_event("response.content_part.added", part=part)]

    def _begin_item(self, prefix: str, kind: str, fields: dict[str, Any]) -> list[bytes]:
        ended = self._close_item()
        item = {"id": f"{prefix}_{secrets.token_hex(12)}", "type": kind, "status": "in_progress", **fields}
        self._items.append(item)
        self._open = True
        return [*ended, self._event("response.output_item.added", output_index=len(self._items) - 1, item=item)]

    def _close_item(self) -> list[bytes]:
        """The events that end the last item, if it has not ended."""
        if not self._open:
            return []
        self._open = False
        item = self._items[-1]
        item["status"] = "incomplete" if self._sample.finish_reason in _INCOMPLETE else "completed"
        if item["type"] == "message":
            part = item["content"][0]
            events = [
                self._content_event("response.output_text.done", text=part["text"], logprobs=[]),
                self._content_event("response.content_part.done", part=part),
            ]
        else:
            fields = {"arguments": item["arguments"], "name": item["name"]}
            events = [self._item_event("response.function_call_arguments.done", **fields)]
        return [*events, self._event("response.output_item.done", output_index=len(self._items) - 1, item=item)]

    def _content_event(self, kind: str, **fields: Any) -> bytes:
        return self._item_event(kind, content_index=0, **fields)

    def _item_event(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._items[-1]["id"], output_index=len(self._items) - 1, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        """An event with some fields, by default with the whole response; nothing is encoded outside a stream."""
        if not self._body.stream:
            return b""
        self._number += 1
        value = {"type": kind, "sequence_number": self._number - 1, **(fields or {"response": self.whole()})}
        return event(value, kind)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
    }
