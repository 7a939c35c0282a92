"""The chat page at `/`: static files without a build step, which load nothing from other servers.

The browser enforces this: scripts, styles and requests only from this server, nothing inline, and no text becomes
markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

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


@dataclass(frozen=True)
class Page:
    """A further page, at `/NAME`. folder: its static files, with `index.html`. router: the requests that it sends."""

    name: str
    folder: Traversable
    router: APIRouter

    @property
    def path(self) -> str:
        """Where a browser opens it; needs no key."""
        return f"/{self.name}"


def make_router(pages: Sequence[Page] = ()) -> APIRouter:
    """The chat page and further ones, with the requests that they send."""
    router = APIRouter(include_in_schema=False)
    router.include_router(inspection.router)
    router.include_router(card.router)
    _add_files(router, files("tinyslm.serving.page") / "static", "/", "/page/")
    for page in pages:
        router.include_router(page.router)
        _add_files(router, page.folder, page.path, f"/page/{page.name}/")
    return router


def _add_files(router: APIRouter, folder: Traversable, index: str, prefix: str) -> None:
    """The files of a folder at `prefix`, and its `index.html` at `index`."""
    for file in folder.iterdir():
        if file.is_file() and file.name.rpartition(".")[2] in TYPES:
            _add_file(router, index if file.name == "index.html" else prefix + file.name, file)


def _add_file(router: APIRouter, path: str, file: Traversable) -> None:
    name, content = file.name, file.read_bytes()
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "Content-Type": f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8", "ETag": tag}

    async def respond(http: HttpRequest) -> Response:
        if http.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    router.add_api_route(path, respond, methods=["GET", "HEAD"])
