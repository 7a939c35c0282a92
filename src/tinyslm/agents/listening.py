"""Listening to a model: its text as it comes, and the calls in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from tinyslm.agents.running import Call
from tinyslm.inference.call_stream import (
    ArgumentsDelta,
    CallBroken,
    CallEnd,
    CallStart,
    TextDelta,
    ToolCallStream,
)
from tinyslm.inference.request import Finish, Piece


@dataclass
class Heard:
    """What the model said in one step: its text beside the calls, and the calls that are whole.

    broken: a call was begun that did not come to its end. tokens: how many it took. finish: as of a `Piece`.
    """

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    broken: bool = False
    tokens: int = 0
    finish: Finish = ""


class Listener:
    """Takes the pieces of one step. Calls are numbered on from `first`: "call_1", "call_2"..."""

    def __init__(self, first: int) -> None:
        self.heard = Heard()
        self._first = first
        self._stream = ToolCallStream()
        self._begun: dict[int, tuple[str, list[str]]] = {}

    def push(self, piece: Piece) -> Iterator[str]:
        """The text beside calls that is certain with this piece."""
        self.heard.tokens, self.heard.finish = piece.tokens, piece.finish
        events = self._stream.push(piece.text)
        if piece.finish:
            events += self._stream.flush(cut=piece.finish != "stop" or self._stream.in_tag)
        for event in events:
            match event:
                case TextDelta(text):
                    self.heard.text += text
                    yield text
                case CallStart(index, name):
                    self._begun[index] = (name, [])
                case ArgumentsDelta(index, text):
                    self._begun[index][1].append(text)
                case CallEnd(index):
                    name, parts = self._begun[index]
                    number = self._first + len(self.heard.calls)
                    self.heard.calls.append(Call(f"call_{number}", name, json.loads("".join(parts))))
                case CallBroken():
                    self.heard.broken = True
        if self._stream.unfinished:
            self.heard.broken = True
