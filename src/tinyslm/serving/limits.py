"""Who comes in, and with how much: what is checked before the app sees a request.

A page in somebody's browser can reach a server on the same machine. It must not: requests whose `Host` is not this
machine's are refused (a name of the page's own that was rebound to 127.0.0.1), and so are those that the browser marks
as sent by a page from elsewhere (`Origin`, `Sec-Fetch-Site`), and bodies that are not declared as JSON, which a page
could send without asking first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinyslm.core.strict_json import JsonError, parse_json
from tinyslm.serving.bridge import Answer
from tinyslm.serving.errors import ApiError, bad_request, closing, full
from tinyslm.serving.keys import Keys
from tinyslm.serving.settings import ServerSettings, is_loopback
from tinyslm.serving.visit import visit_of

BODY_SECONDS = 60.0
"""How long a client may take to send its body."""

OPEN = ("/health", "/ready")
"""What needs no key."""


class Traffic:
    """How much is under way, counted in samples, and whether more is taken."""

    def __init__(self, most: int) -> None:
        self.closing = False
        self.samples = 0
        self._most = most
        self._answers: set[Answer] = set()
        self._stopped = False

    @contextmanager
    def hold(self, samples: int) -> Iterator[None]:
        """Room for so many samples while the block runs; raises `ApiError` when there is none."""
        if self.closing:
            raise closing()
        if self.samples + samples > self._most:
            raise full(f"{self.samples} answers are under way already; {self._most} are possible at once.")
        self.samples += samples
        try:
            yield
        finally:
            self.samples -= samples

    @contextmanager
    def keep(self, answer: Answer) -> Iterator[None]:
        """Know of an answer while the block runs, so that `stop` ends it."""
        self._answers.add(answer)
        if self._stopped:
            answer.stop(closing())
        try:
            yield
        finally:
            self._answers.remove(answer)

    def stop(self) -> None:
        """End all answers, and those that may still begin."""
        self.closing = self._stopped = True
        for answer in list(self._answers):
            answer.stop(closing())


class Door:
    """Lets in who may use the server."""

    def __init__(
        self, app: ASGIApp, *, settings: ServerSettings, keys: Keys, traffic: Traffic, public: Collection[str]
    ) -> None:
        """`public`: paths that need no key; one that ends in a slash means all below it."""
        self.app, self._settings, self._keys, self._traffic = app, settings, keys, traffic
        self._public = tuple(path for path in public if path.endswith("/") and path != "/")
        self._open = {*OPEN, *public}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                receive = await self._with_body(scope, receive)
        except ApiError as error:
            await error.response(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_origin(headers)
        path = scope["path"]
        is_open = path in self._open or path.startswith(self._public)
        if self._keys and not is_open:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            name = self._keys.name(key.strip()) if scheme.lower() == "bearer" else None
            if name is None:
                raise ApiError(
                    401,
                    "This server needs a key that it knows: send it as `Authorization: Bearer KEY`.",
                    "invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            visit_of(scope).user = name
        if self._traffic.closing and path not in OPEN:
            raise closing()

    def _check_host(self, headers: Headers) -> None:
        settings = self._settings
        if not settings.local and not settings.allow_host:
            return
        host = _without_port(headers.get("host", ""))
        if not (is_loopback(host) or host in settings.allow_host or host == settings.host):
            raise ApiError(
                403, "This name is not the server's; --allow-host NAME makes it so.", "wrong_host", param="Host"
            )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None:
            elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            refused = elsewhere and headers.get("sec-fetch-mode") != "navigate"
        else:
            refused = origin not in self._settings.cors and _netloc(origin) != headers.get("host")
        if refused:
            raise ApiError(
                403, "Pages from elsewhere may not use this server; --cors ORIGIN allows one.", "wrong_origin"
            )

    async def _with_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body, within limits; returns what gives it to the app, and after it the client's leaving."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._settings.max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(receive)
        except TimeoutError:
            raise ApiError(408, f"The body did not come within {BODY_SECONDS:g} seconds.", "slow_body") from None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if (body or scope["method"] == "POST") and kind != "application/json":
            raise ApiError(415, "Send JSON, as `Content-Type: application/json`.", "wrong_content_type")
        if body:
            _check_json(body)
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return given.pop() if given else await receive()

        return replay

    async def _body(self, receive: Receive) -> bytes:
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ApiError(499, "The client has closed the connection.", "client_gone")
            parts += message.get("body", b"")
            if len(parts) > self._settings.max_body:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(parts)

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"The body is longer than {self._settings.max_body:,} bytes.",
            "body_too_large",
            headers={"Connection": "close"},
        )


def _check_json(body: bytes) -> None:
    try:
        parse_json(body)
    except JsonError as error:
        message = f"The body is not valid JSON: {error}. Send JSON (RFC 8259) in UTF-8."
        raise bad_request(message, code="invalid_json") from None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        raise bad_request("The header Origin is not a URL. Send none, or scheme, host and port.", "Origin") from None


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).strip("[]").lower()
