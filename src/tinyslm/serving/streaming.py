"""Answers that are sent piece by piece, as server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tinyslm.inference.request import Piece
from tinyslm.serving.bridge import Answer
from tinyslm.serving.errors import ApiError
from tinyslm.serving.service import service_of

Write = Callable[[Sequence[tuple[int, Piece]]], bytes]
"""The events for some pieces."""
End = Callable[[], bytes]
"""The events after the last piece."""


class EventStream(Response):
    """Sends what `write` makes of each batch of pieces, then what `end` gives.

    Nothing is sent before the first piece, so that what goes wrong before it has its HTTP status. What goes wrong later
    is told in a last event, which `fail` writes.
    """

    media_type = "text/event-stream"

    def __init__(self, answer: Answer, write: Write, end: End, fail: Callable[[ApiError], bytes] | None = None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._answer, self._write, self._end = answer, write, end
        self._fail = fail or (lambda error: error.event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        http = HttpRequest(scope, receive)
        begun = False
        try:
            async with service_of(http).answering(http, self._answer):
                async for pieces in self._answer:
                    data = self._write(pieces)
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    if data:
                        await send({"type": "http.response.body", "body": data, "more_body": True})
                data = self._end()
        except ApiError as error:
            if not begun:
                raise
            data = self._fail(error)
        await send({"type": "http.response.body", "body": data, "more_body": False})
