"""One line of log for each request, counting, security headers, and an answer even to what fails."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinyslm.core.printable import printable
from tinyslm.serving.errors import api_error
from tinyslm.serving.service import Service
from tinyslm.serving.visit import visit_of

LOG = logging.getLogger("tinyslm.serving")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Watching:
    """Sees every request first, and its answer last."""

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        self.app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit, status = visit_of(scope), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _secure(message, self._service.settings.cors)
            await send(message)

        try:
            await self.app(scope, receive, told)
        except Exception as error:
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            await api_error(error).response(scope, receive, told)
        finally:
            self._service.metrics.request(_route(scope), status or 499)
            LOG.info("%s", visit.line(scope["method"], scope["path"], status or 499))
            if visit.prompt:
                LOG.info("  prompt: %s\n  answer: %s", _on_one_line(visit.prompt), _on_one_line(visit.answer))


def _secure(message: MutableMapping[str, Any], shared: object) -> None:
    headers = MutableHeaders(raw=message["headers"])
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if not shared:
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    message["headers"] = headers.raw


def _route(scope: Scope) -> str:
    """The path as the app knows it, without what stands in for parameters."""
    return getattr(scope.get("route"), "path", "")


def _on_one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")
