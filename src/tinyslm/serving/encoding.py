"""JSON responses and server-sent events as bytes."""

from __future__ import annotations

import json
import secrets
from typing import Any

from starlette.responses import JSONResponse

DONE = b"data: [DONE]\n\n"

_PLACEHOLDER = "\x00text\x00"


def encode(value: Any) -> bytes:
    r"""Compact JSON in UTF-8. A lone surrogate, which UTF-8 cannot encode, is written as `\ud800`: valid JSON too."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


class JsonResponse(JSONResponse):
    def render(self, content: Any) -> bytes:
        return encode(content)


def event(value: Any, name: str = "") -> bytes:
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + encode(value) + b"\n\n"


class EventTemplate:
    """Events that differ only in one text: everything else is encoded once, since a stream has one per token."""

    def __init__(self, make: Any) -> None:
        """make: the value of an event, given its text."""
        self._before, self._after = event(make(_PLACEHOLDER)).split(json.dumps(_PLACEHOLDER).encode())

    def render(self, text: str) -> bytes:
        return self._before + json.dumps(text).encode() + self._after


def new_id(kind: str) -> str:
    """A unique id such as `chatcmpl-8f3c...`."""
    return f"{kind}-{secrets.token_hex(12)}"
