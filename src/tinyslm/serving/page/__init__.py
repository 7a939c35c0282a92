"""The chat page at `/`: a few static files without a build step, which ask nothing of any other server.

The browser is told so too: scripts, styles and requests only from here, nothing inline, and no text becomes markup.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.serving.page.looking import router as looking

if TYPE_CHECKING:
    from tinyslm.serving.models import Models

PUBLIC = ("/", "/page/")
"""What needs no key: the page itself asks for one."""

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def router(models: Models) -> APIRouter:
    """The page at `/`, its files below `/page/`, and `/look`, where it asks what goes on inside a model."""
    routes = APIRouter(include_in_schema=False)
    for name, content in _contents().items():
        path = "/" if name == "index.html" else f"/page/{name}"
        routes.add_api_route(path, _Static(name, content), methods=["GET", "HEAD"])
    routes.include_router(looking(models))
    return routes


def _contents() -> dict[str, bytes]:
    """The page's files by name."""
    folder = files("tinyslm.serving.page") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


class _Static:
    """Answers with one file, or tells a browser that the one it has is the newest."""

    def __init__(self, name: str, content: bytes) -> None:
        self.__name__ = name
        self._content = content
        kind = TYPES["." + name.rpartition(".")[2]]
        tag = f'"{sha256(content).hexdigest()[:32]}"'
        self._headers = {**HEADERS, "Content-Type": f"{kind}; charset=utf-8", "ETag": tag}

    async def __call__(self, http: HttpRequest) -> Response:
        if http.headers.get("if-none-match") == self._headers["ETag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers)
