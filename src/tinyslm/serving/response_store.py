"""Responses of /v1/responses that later requests may refer to; in memory, and limited in size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyslm.serving.encoding import encode
from tinyslm.serving.errors import ApiError
from tinyslm.serving.schemas.chat import Message

MAX_BYTES = 64_000_000


@dataclass(frozen=True)
class StoredResponse:
    """owner: the name of the API key; no other key has access. messages: the conversation up to the response."""

    owner: str
    messages: Sequence[Message]
    response: Mapping[str, Any]
    size: int


class ResponseStore:
    """The newest responses, up to `limit` bytes together with their conversations."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit, self._size = limit, 0
        self._stored: OrderedDict[str, StoredResponse] = OrderedDict()

    def add(self, owner: str, messages: Sequence[Message], response: Mapping[str, Any]) -> None:
        """Store a response under its id; the oldest ones are evicted."""
        size = len(encode(response)) + sum(len(encode(message.model_dump())) for message in messages)
        self._stored[response["id"]] = StoredResponse(owner, messages, response, size)
        self._size += size
        while self._size > self._limit:
            self._size -= self._stored.popitem(last=False)[1].size

    def get(self, name: str, owner: str) -> StoredResponse:
        """The response with this id. Raises `ApiError` if there is none, or if it belongs to someone else."""
        stored = self._stored.get(name)
        if stored is None or stored.owner != owner:
            raise ApiError(404, f"There is no response {name[:80]!r}.", "not_found")
        return stored

    def remove(self, name: str, owner: str) -> None:
        """Delete a response; raises `ApiError` like `get`."""
        self._size -= self.get(name, owner).size
        del self._stored[name]
