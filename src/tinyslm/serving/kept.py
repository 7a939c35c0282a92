"""Answers of /v1/responses that later requests may go on from; in memory, as many as there is room for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyslm.serving.errors import ApiError, bad_request
from tinyslm.serving.shapes.chat import Message
from tinyslm.serving.wire import encode

MOST_BYTES = 64_000_000


@dataclass(frozen=True)
class _Entry:
    """owner: the key's name, who alone sees it; told: the response as JSON."""

    owner: str
    messages: Sequence[Message]
    told: Mapping[str, Any]
    size: int


class Kept:
    """The newest answers, up to so many bytes of their conversations."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most, self._size = most, 0
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def add(self, name: str, owner: str, messages: Sequence[Message], told: Mapping[str, Any]) -> None:
        """Keep an answer, with the conversation that it ends; the oldest ones make room."""
        size = len(encode(told)) + sum(len(encode(message.model_dump())) for message in messages)
        self._entries[name] = _Entry(owner, messages, told, size)
        self._size += size
        while self._size > self._most:
            self._size -= self._entries.popitem(last=False)[1].size

    def messages(self, name: str | None, owner: str) -> Sequence[Message]:
        """The conversation up to an answer; none where none is named."""
        if name is None:
            return ()
        entry = self._entries.get(name)
        if entry is None or entry.owner != owner:
            raise bad_request(
                f"There is no response {name[:80]!r} any longer, or there never was: send the whole conversation.",
                "previous_response_id",
                "previous_response_not_found",
            )
        return entry.messages

    def told(self, name: str, owner: str) -> Mapping[str, Any]:
        """An answer."""
        return self._entry(name, owner).told

    def remove(self, name: str, owner: str) -> None:
        """Forget an answer."""
        self._size -= self._entry(name, owner).size
        del self._entries[name]

    def _entry(self, name: str, owner: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None or entry.owner != owner:
            raise ApiError(404, f"There is no response {name[:80]!r}.", "not_found")
        return entry
