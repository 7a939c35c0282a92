"""JSON as it leaves the server."""

from __future__ import annotations

import itertools
import json
import secrets
from typing import Any

from starlette.responses import JSONResponse


def encode(value: Any) -> bytes:
    r"""Compact JSON in UTF-8. A lone surrogate, which UTF-8 cannot hold, is written as `\ud800`: valid JSON too."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


class Json(JSONResponse):
    """A response of JSON."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return encode(content)


def event(value: Any) -> bytes:
    """A server-sent event of JSON."""
    return b"data: " + encode(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def quoted(text: str) -> bytes:
    """A text as a JSON string."""
    return json.dumps(text).encode()


def new_id(kind: str) -> str:
    """A name for one answer, of this server's many: `chatcmpl-8f3c...`. Nobody is kept from guessing it."""
    return f"{kind}-{_RUN}{next(_NUMBERS):08x}"


_RUN = secrets.token_hex(8)
_NUMBERS = itertools.count()

MARK = "\x00text\x00"
"""Stands for the text in an event that is made once, to be taken apart around it."""


def around_text(made: bytes) -> tuple[bytes, bytes]:
    """What stands before and after `MARK` in an event."""
    before, after = made.split(quoted(MARK))
    return before, after


def finish_reason(finish: str) -> str | None:
    """OpenAI's name for why a text ended. "invalid" is "content_filter", after which clients do not parse the text."""
    return "content_filter" if finish == "invalid" else finish or None
