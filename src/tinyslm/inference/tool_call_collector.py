"""Collect the text and the tool calls of one sample from its pieces."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from tinyslm.inference.call_stream import (
    ArgumentsDelta,
    CallBroken,
    CallEnd,
    CallEvent,
    CallStart,
    TextDelta,
    ToolCallStream,
)
from tinyslm.inference.request import Finish, Piece, TokenScore


@dataclass
class CollectedCall:
    """A call so far; `arguments`: JSON, valid once the call is complete."""

    name: str
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")
    arguments: str = ""
    complete: bool = False


class ToolCallCollector:
    """Takes the pieces of a sample.

    Attributes: `calls`, `scores` and `tokens` so far. `finish`: as of a `Piece`. `broken`: a call was cut off or is
    invalid. `begun`: whether there was a piece.
    """

    def __init__(self, *, parse_calls: bool = True) -> None:
        """parse_calls: otherwise everything is text."""
        self.calls: list[CollectedCall] = []
        self.scores: list[TokenScore] = []
        self.tokens = 0
        self.finish: Finish = ""
        self.begun = self.broken = False
        self._texts: list[str] = []
        self._stream = ToolCallStream() if parse_calls else None

    @property
    def text(self) -> str:
        """The text outside calls."""
        return "".join(self._texts)

    @property
    def finish_reason(self) -> str | None:
        """The finish in OpenAI's terms; for "content_filter", which stands for "invalid", clients do not parse text."""
        if self.finish == "invalid":
            return "content_filter"
        if self.finish == "stop" and self._stream is not None and self._stream.unfinished:
            return "length"
        return "tool_calls" if self.finish == "stop" and self.calls and not self.broken else self.finish or None

    def take(self, piece: Piece) -> list[CallEvent]:
        """The text and the parts of calls that are new with this piece."""
        self.begun, self.tokens, self.finish = True, piece.tokens, piece.finish
        self.scores += piece.scores
        if self._stream is None:
            self._texts.append(piece.text)
            return [TextDelta(piece.text)] if piece.text else []
        events = self._stream.push(piece.text)
        if piece.finish:
            events += self._stream.flush(cut=piece.finish != "stop" or self._stream.in_tag)
        for event in events:
            match event:
                case TextDelta(text):
                    self._texts.append(text)
                case CallStart(_, name):
                    self.calls.append(CollectedCall(name))
                case ArgumentsDelta(index, text):
                    self.calls[index].arguments += text
                case CallEnd(index):
                    self.calls[index].complete = True
                case CallBroken():
                    self.broken = True
        self.broken = self.broken or self._stream.unfinished
        return events
