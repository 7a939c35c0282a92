"""An answer of /v1/responses: its output items as they grow, and the events that tell of them."""

from __future__ import annotations

import secrets
import time
from typing import Any

from tinyslm.inference.request import Piece, Usage
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.errors import ApiError
from tinyslm.serving.shapes.chat import CalledFunction, Message, ToolCall
from tinyslm.serving.shapes.responses import ResponseBody
from tinyslm.serving.speech import Delta, Speech
from tinyslm.serving.wire import encode

_REASONS = {"length": "max_output_tokens", "invalid": "content_filter"}
"""Why an answer is incomplete, by its finish reason."""


class ResponseEvents:
    """Takes pieces in, and gives events; the output items are the answer so far.

    id: of the response.
    """

    def __init__(self, body: ResponseBody, model: str, settings: SamplingSettings) -> None:
        self.id = f"resp_{secrets.token_hex(16)}"
        self._body, self._model, self._settings, self._created = body, model, settings, int(time.time())
        self._speech = Speech(calls=bool(body.tools) and body.tool_choice != "none")
        self._items: list[dict[str, Any]] = []
        self._open = False
        self._number = 0
        self._status = "in_progress"
        self._reason: str | None = None
        self._error: dict[str, Any] | None = None

    def write(self, piece: Piece) -> bytes:
        """The events for one piece."""
        events = []
        if not self._speech.begun:
            events += [self._whole("response.created"), self._whole("response.in_progress")]
        for delta in self._speech.take(piece):
            events += self._said(delta)
        if piece.finish:
            if not self._items:
                events += self._said(Delta(""))
            events += self._close()
            self._status = "incomplete" if piece.finish in _REASONS else "completed"
            self._reason = _REASONS.get(piece.finish)
        return b"".join(events)

    def end(self, usage: Usage) -> bytes:
        """The last event."""
        return self._whole(f"response.{self._status}", usage)

    def fail(self, error: ApiError) -> bytes:
        """The last event of an answer that was ended early."""
        self._status = "failed"
        self._error = {"code": "server_error", "message": error.message}
        return self._whole("response.failed")

    def message(self) -> Message:
        """The answer as a message of a chat."""
        calls = [
            ToolCall(id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments))
            for call in self._speech.calls
        ]
        return Message(role="assistant", content=self._speech.text, tool_calls=calls or None)

    def told(self, usage: Usage | None) -> dict[str, Any]:
        """The response as it is now."""
        body = self._body
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "status": self._status,
            "error": self._error,
            "incomplete_details": {"reason": self._reason} if self._status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata,
            "model": self._model,
            "output": self._items,
            "parallel_tool_calls": body.parallel_tool_calls,
            "previous_response_id": body.previous_response_id,
            "reasoning": None,
            "store": body.store,
            "temperature": self._settings.temperature,
            "text": body.text.model_dump(by_alias=True) if body.text and body.text.format else _PLAIN,
            "tool_choice": body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.model_dump(),
            "tools": [tool.model_dump() for tool in body.tools],
            "top_p": self._settings.top_p,
            "truncation": body.truncation,
            "usage": None if usage is None else _usage(usage),
        }

    def _said(self, delta: Delta) -> list[bytes]:
        """The events for some more text, or some more of a call."""
        if delta.call is None:
            begin = [] if self._open and self._items[-1]["type"] == "message" else self._begin_message()
            self._items[-1]["content"][0]["text"] += delta.text
            return [*begin, self._of_part("response.output_text.delta", delta=delta.text, logprobs=[])]
        begin = [] if delta.name is None else self._begin_call(delta)
        self._items[-1]["arguments"] += delta.text
        if not delta.text:
            return begin
        return [*begin, self._of_item("response.function_call_arguments.delta", delta=delta.text)]

    def _begin_message(self) -> list[bytes]:
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "status": "in_progress"}
        ended = self._close()
        self._items.append({**item, "content": []})
        begun = self._event("response.output_item.added", output_index=self._place, item=self._items[-1])
        self._items[-1]["content"].append(part)
        self._open = True
        return [*ended, begun, self._of_part("response.content_part.added", part=part)]

    def _begin_call(self, delta: Delta) -> list[bytes]:
        ended = self._close()
        self._items.append(
            {
                "id": f"fc_{secrets.token_hex(12)}",
                "type": "function_call",
                "status": "in_progress",
                "call_id": delta.id,
                "name": delta.name,
                "arguments": "",
            }
        )
        self._open = True
        return [*ended, self._event("response.output_item.added", output_index=self._place, item=self._items[-1])]

    def _close(self) -> list[bytes]:
        """The events that end the last item, if it has not ended."""
        if not self._open:
            return []
        self._open = False
        item = self._items[-1]
        cut = self._speech.finish in ("length", "content_filter")
        item["status"] = "incomplete" if cut else "completed"
        if item["type"] == "message":
            part = item["content"][0]
            events = [
                self._of_part("response.output_text.done", text=part["text"], logprobs=[]),
                self._of_part("response.content_part.done", part=part),
            ]
        else:
            told = {"arguments": item["arguments"], "name": item["name"]}
            events = [self._of_item("response.function_call_arguments.done", **told)]
        return [*events, self._event("response.output_item.done", output_index=self._place, item=item)]

    @property
    def _place(self) -> int:
        return len(self._items) - 1

    def _of_part(self, kind: str, **fields: Any) -> bytes:
        return self._of_item(kind, content_index=0, **fields)

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._items[-1]["id"], output_index=self._place, **fields)

    def _whole(self, kind: str, usage: Usage | None = None) -> bytes:
        return self._event(kind, response=self.told(usage))

    def _event(self, kind: str, **fields: Any) -> bytes:
        """One event; outside of streams, none is written."""
        if not self._body.stream:
            return b""
        value = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode(value) + b"\n\n"


_PLAIN = {"format": {"type": "text"}}


def _usage(used: Usage) -> dict[str, Any]:
    """Tokens used, in this API's words."""
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens},
        "output_tokens": used.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.prompt_tokens + used.generated_tokens,
    }
