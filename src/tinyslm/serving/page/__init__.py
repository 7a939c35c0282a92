"""The chat page at `/`: static files without a build step, which load nothing from other servers.

The browser enforces this: scripts, styles and requests only from this server, nothing inline, and no text becomes
markup.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.serving.page import card, inspection

PUBLIC = ("/", "/page/")
"""Paths that need no key: the page asks for one."""

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)
router.include_router(inspection.router)
router.include_router(card.router)


def _add_file(name: str, content: bytes) -> None:
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "Content-Type": f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8", "ETag": tag}

    async def respond(http: HttpRequest) -> Response:
        if http.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    path = "/" if name == "index.html" else f"/page/{name}"
    router.add_api_route(path, respond, methods=["GET", "HEAD"])


for _file in (files("tinyslm.serving.page") / "static").iterdir():
    if _file.is_file():
        _add_file(_file.name, _file.read_bytes())
