"""Limits on connections before the app sees a request: their number per address, and the size and time of headers.

uvicorn has no such limits: an unfinished request would hold its connection forever, and an endless header would fill
the memory. A rejected connection gets a short error response and is closed.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tinyslm.serving.errors import ApiError
from tinyslm.serving.settings import ServerSettings

FRAMING = 8
"""Maximum bytes of framing per byte of a body; a chunked body with one byte per chunk has six."""

IPV6_NETWORK = 64
"""Bits of an IPv6 address that are compared: such a network usually belongs to one client."""


def connection_factory(settings: ServerSettings) -> Callable[..., Connection]:
    """The factory of protocols for uvicorn's `http` setting; its connections are counted together."""
    return partial(Connection, limits=settings, counts=Counter())


class Connection(HttpToolsProtocol):
    """One connection.

    The request line and the headers together may have `max_header` bytes. They must be complete within
    `header_seconds` of the opening of the connection or, if it was kept alive, of their first byte. The rest of a body
    has the same time if the request was answered before.
    """

    def __init__(self, *arguments: Any, limits: ServerSettings, counts: Counter[str], **named: Any) -> None:
        """counts: the server's open connections by address."""
        super().__init__(*arguments, **named)
        self._limits, self._counts = limits, counts
        self._address = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._in_message = self._in_headers = False
        self._header_bytes = 0  # parsed so far
        self._overhead = 0  # bytes of this message that are not body: of its headers, later since its headers
        self._messages = 0  # in the current data; with several, the start of the last one is unknown
        self._body_bytes = self._new_body_bytes = 0  # of this message, and in the current data
        self._rejection: ApiError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = network(self.client[0]) if self.client else ""
        self._counts[self._address] += 1
        if self._counts[self._address] > self._limits.max_connections:
            self._reject(
                ApiError(
                    429,
                    f"This address has {self._limits.max_connections} open connections. Close some, or reuse them.",
                    "too_many_connections",
                    headers={"Retry-After": "1"},
                )
            )
        else:
            self._begin_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self._counts[self._address] -= 1
        if not self._counts[self._address]:
            del self._counts[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._in_message and self._deadline is None:
            self._begin_deadline()
        self._messages, self._new_body_bytes = int(self._in_message), 0
        super().data_received(data)
        if self.transport.is_closing() or not self._in_message or self._messages > 1:
            return
        self._overhead += len(data) - self._new_body_bytes
        limit = self._limits.max_header
        if self._overhead > (limit if self._in_headers else 2 * limit + FRAMING * self._body_bytes):
            self._reject(self._too_large())

    def send_400_response(self, msg: str) -> None:
        """Called when parsing fails, also because of an exception that was raised here."""
        self._reject(self._rejection or ApiError(400, f"{msg} Send HTTP/1.1.", "invalid_http"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = self._in_headers = True
        self._messages += 1
        self._header_bytes = self._overhead = self._body_bytes = 0
        if self._deadline is None:
            self._begin_deadline()

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer after the body, which is ignored."""
        self._count_header(len(name) + len(value) + len(": \r\n"))
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end_deadline()
        self._in_headers, self._overhead = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._new_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._end_deadline()
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message and not self.transport.is_closing():
            self._begin_deadline()

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.max_header:
            self._rejection = self._too_large()
            raise ValueError("the headers are too large")  # the parser stops, and calls `send_400_response`

    def _too_large(self) -> ApiError:
        limit = self._limits.max_header
        return ApiError(431, f"The headers have more than {limit:,} bytes.", "headers_too_large")

    def _begin_deadline(self) -> None:
        self._end_deadline()
        self._deadline = self.loop.call_later(self._limits.header_seconds, self._too_slow)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:
            return  # a response is being sent; the next request waits
        if self._in_message and not self._in_headers:
            self.transport.close()  # the request was answered
            return
        seconds = self._limits.header_seconds
        message = f"The headers were not complete after {seconds:g} seconds."
        self._reject(ApiError(408, message, "slow_header"))

    def _reject(self, error: ApiError) -> None:
        """Send an error and close; only close if another response is being sent."""
        self._end_deadline()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
            return
        response = error.response
        headers = [*response.raw_headers, (b"connection", b"close")]
        lines = [STATUS_LINE[error.status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n"]
        self.transport.write(b"".join(lines) + bytes(response.body))
        self.transport.close()


def network(address: str) -> str:
    """The key under which an address is counted: the address, or for IPv6 its network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_NETWORK), strict=False))
    return str(parsed)
