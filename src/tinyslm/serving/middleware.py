"""Middleware: access control and body limits before a request reaches the app, and the access log around it.

A web page in a browser can send requests to a server on the same machine. Requests are rejected whose `Host` is not
this machine's (a name of the page's own that was rebound to 127.0.0.1), that the browser marks as sent by a page of
another origin (`Origin`, `Sec-Fetch-Site`), and whose body is not declared as JSON, which a page could send without a
preflight request.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinyslm.core.printable import printable
from tinyslm.core.strict_json import JsonError, parse_json
from tinyslm.serving.errors import ApiError, api_error, bad_request, disconnected, shutting_down
from tinyslm.serving.request_log import REQUEST, access_line, log_of, request_id
from tinyslm.serving.service import Service
from tinyslm.serving.settings import is_loopback

LOG = logging.getLogger("tinyslm.serving")

BODY_SECONDS = 60.0
"""How long a client may take to send its body."""

DISCARD_SECONDS = 5.0
"""How long the rest of a body that is too large is read: a client that sends it all before it reads gets the error."""

ASKING = "/gradio"
"""Where browsers ask for the key, since the page there does not."""

HEALTH = ("/health", "/ready")

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AccessMiddleware:
    """Rejects requests that may not use the server, and bodies that are too large, too slow or not strict JSON."""

    def __init__(self, app: ASGIApp, *, service: Service, public: Collection[str]) -> None:
        """public: paths that need no key; one that ends in a slash stands for all below it.

        The key is a bearer token. Below `ASKING`, browsers ask for it: as the password of any user.
        """
        self.app, self._service, self._settings = app, service, service.settings
        self._public = {*HEALTH, *public}
        self._public_folders = tuple(path for path in public if path.endswith("/") and path != "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope, Headers(scope=scope))
                if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                    receive = await self._with_body(scope, receive)
            except ApiError as error:
                await error.response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(headers)
        self._check_origin(headers)
        path = scope["path"]
        keys = self._service.keys  # others after a reload
        if keys and path not in self._public and not path.startswith(self._public_folders):
            asking = path == ASKING or path.startswith(f"{ASKING}/")
            name = keys.name(_given_key(headers.get("authorization", ""), asking))
            if name is None:
                raise ApiError(
                    401,
                    "This server needs a valid API key: send it as `Authorization: Bearer KEY`.",
                    "invalid_api_key",
                    headers={
                        "WWW-Authenticate": 'Basic realm="tinyslm: the key is the password"' if asking else "Bearer"
                    },
                )
            log_of(scope).user = name
        if self._service.admission.closing and path not in HEALTH:
            raise shutting_down()

    def _check_host(self, headers: Headers) -> None:
        settings, hosts = self._settings, headers.getlist("host")
        if len(hosts) > 1:
            raise bad_request("There are several Host headers. Send one.", "Host")
        host = _without_port("".join(hosts))
        allowed = is_loopback(host) or host in settings.allow_host or host == settings.host
        if not allowed and (settings.local or settings.allow_host):
            raise ApiError(
                403, "This is not a name of the server; --allow-host NAME adds one.", "wrong_host", param="Host"
            )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None:
            foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            rejected = foreign and headers.get("sec-fetch-mode") != "navigate"
        else:
            rejected = origin not in self._settings.cors and _netloc(origin) != headers.get("host")
        if rejected and not self._settings.public:
            raise ApiError(
                403, "Pages of other origins may not use this server; --cors ORIGIN allows one.", "wrong_origin"
            )

    async def _with_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read and check the body; returns a `receive` that yields it, and later the client's disconnect."""
        headers = Headers(scope=scope)
        body = await self._read(headers, receive)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if (body or scope["method"] == "POST") and kind != "application/json":
            raise ApiError(415, "Send JSON, as `Content-Type: application/json`.", "wrong_content_type")
        if body:
            _check_json(body)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        body, limit = bytearray(), self._settings.max_body
        length = headers.get("content-length", "0")
        too_large = not length.isdecimal() or int(length) > limit
        more = not (too_large and headers.get("expect"))  # with Expect: 100-continue, no body is sent
        try:
            async with asyncio.timeout(BODY_SECONDS) as deadline:
                while more:
                    if too_large:
                        discarding_until = asyncio.get_running_loop().time() + DISCARD_SECONDS
                        deadline.reschedule(min(deadline.when() or discarding_until, discarding_until))
                    received = await receive()
                    if received["type"] == "http.disconnect":
                        raise disconnected()
                    body += received.get("body", b"")
                    more = received.get("more_body", False)
                    if too_large := too_large or len(body) > limit:
                        body.clear()
        except TimeoutError:
            if not too_large:
                message = f"The body was not complete after {BODY_SECONDS:g} seconds."
                raise ApiError(408, message, "slow_body") from None
        if too_large:
            message = f"The body is longer than {limit:,} bytes."
            raise ApiError(413, message, "body_too_large", headers={"Connection": "close"})
        return bytes(body)


class AccessLogMiddleware:
    """Logs and counts each request, adds security headers, and answers requests that fail with an exception."""

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        self.app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        log, status = log_of(scope), 0
        log.id = request_id(Headers(scope=scope).get("x-request-id", ""))
        REQUEST.set(log.id)

        async def send_secured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers["X-Request-Id"] = log.id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if not self._service.settings.cors:
                    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
                if self._service.settings.public:
                    _allow_frames(headers)
                message["headers"] = headers.raw
            await send(message)

        try:
            await self.app(scope, receive, send_secured)
        except Exception as error:
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            await api_error(error).response(scope, receive, send_secured)
        finally:
            route = getattr(scope.get("route"), "path", "")  # with the names of parameters, not their values
            self._service.metrics.request(route, status or 499)
            fields = log.fields(scope["method"], scope["path"], status or 499)
            level = logging.WARNING if status >= 500 else logging.INFO
            LOG.log(level, "%s", access_line(fields), extra={"fields": fields})
            if log.texts is not None:
                for name, text in (("prompt", log.prompt), ("answer", "".join(log.texts))):
                    LOG.info("%s: %s", name, _on_one_line(text), extra={"fields": {name: text}})


def _allow_frames(headers: MutableHeaders) -> None:
    """Let other sites show a page in a frame."""
    del headers["X-Frame-Options"]
    policy = headers.get("content-security-policy", "")
    if "frame-ancestors" in policy:
        headers["Content-Security-Policy"] = policy.replace("frame-ancestors 'none'", "frame-ancestors *")


def _given_key(authorization: str, asking: bool) -> str:
    """The key in the header `Authorization`: a bearer token, or the password where browsers ask for one."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if asking and scheme.lower() == "basic":
        with suppress(ValueError):
            return b64decode(value.strip(), validate=True).decode().partition(":")[2]
    return ""


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
        raise bad_request("The header Origin is not a URL. Omit it, or send scheme, host and port.", "Origin") from None


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).strip("[]").lower()


def _on_one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")
