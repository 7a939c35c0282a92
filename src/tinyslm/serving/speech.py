"""What one sample says: text, and calls of tools."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from tinyslm.inference.request import Piece, TokenScore
from tinyslm.inference.tool_calls import (
    ArgumentsDelta,
    CallBroken,
    CallEvent,
    CallStart,
    TextDelta,
    ToolCallStream,
)
from tinyslm.serving.wire import finish_reason


@dataclass(frozen=True)
class Delta:
    """Some more of it: text of the answer or, where `call` is the number of a call, of its arguments.

    name, id: where the call begins.
    """

    text: str
    call: int | None = None
    name: str | None = None
    id: str | None = None

    def content(self) -> dict[str, Any]:
        """As the delta of a chat completion's chunk."""
        if self.call is None:
            return {"content": self.text}
        if self.name is None:
            return {"tool_calls": [{"index": self.call, "function": {"arguments": self.text}}]}
        function = {"name": self.name, "arguments": self.text}
        return {"tool_calls": [{"index": self.call, "id": self.id, "type": "function", "function": function}]}


@dataclass
class Call:
    """One call; arguments: JSON."""

    id: str
    name: str
    arguments: str = ""

    def told(self) -> dict[str, Any]:
        """As a chat completion tells it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class Speech:
    """One sample: takes its pieces in, and gives what is new in them.

    Attributes: `text`, `calls`, `scores` up to now; `finish`, as OpenAI's API tells it; `begun`: whether there was a
    piece yet.
    """

    def __init__(self, *, calls: bool = False) -> None:
        """`calls`: what is written as a call of a tool is one."""
        self.calls: list[Call] = []
        self.scores: list[TokenScore] = []
        self.finish: str | None = None
        self.begun = False
        self._texts: list[str] = []
        self._stream = ToolCallStream() if calls else None
        self._broken = False

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(self._texts)

    def take(self, piece: Piece) -> list[Delta]:
        """What is new with this piece."""
        self.begun = True
        self.scores += piece.scores
        if self._stream is None:
            deltas = [Delta(piece.text)] if piece.text else []
        else:
            events = self._stream.push(piece.text)
            if piece.finish:
                cut = piece.finish != "stop" or self._stream.in_tag
                events += self._stream.flush(cut=cut)
            deltas = [delta for event in events for delta in self._delta(event)]
        self._texts += [delta.text for delta in deltas if delta.call is None]
        if piece.finish:
            finish = "length" if piece.finish == "stop" and self._unfinished else finish_reason(piece.finish)
            self.finish = "tool_calls" if self.calls and not self._broken and finish == "stop" else finish
        return deltas

    @property
    def _unfinished(self) -> bool:
        return self._stream is not None and self._stream.unfinished

    def message(self) -> dict[str, Any]:
        """The fields of a chat message."""
        if not self.calls:
            return {"content": self.text}
        return {"content": self.text or None, "tool_calls": [call.told() for call in self.calls]}

    def _delta(self, event: CallEvent) -> list[Delta]:
        match event:
            case TextDelta(text):
                return [Delta(text)]
            case CallStart(index, name):
                self.calls.append(Call(f"call_{secrets.token_hex(12)}", name))
                return [Delta("", index, name, self.calls[index].id)]
            case ArgumentsDelta(index, text):
                self.calls[index].arguments += text
                return [Delta(text, index)]
            case CallBroken():  # it was cut off: what was told of it stands, and `finish` says so
                self._broken = True
        return []
