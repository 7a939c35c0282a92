"""Limits on connections before the app sees a request: their number per address, and the size and time of headers.

uvicorn has no such limits: an unfinished request would hold its connection forever, and an endless header would fill
the memory. A refused connection gets a short error response and is closed.
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

BYTES_AROUND = 8
"""Most bytes of framing for each byte of a body; a chunked body with one byte in each chunk has six."""

IPV6_NETWORK = 64
"""Bits of an IPv6 address that are compared: all addresses of such a network usually have one owner."""


def guarded(settings: ServerSettings) -> Callable[..., Connection]:
    """The factory of protocols for uvicorn's `http` setting; all its connections are counted together."""
    return partial(Connection, limits=settings, counts=Counter())


class Connection(HttpToolsProtocol):
    """One connection.

    A request's line and headers together may have `max_header` bytes. They must be complete within `header_seconds`
    of the connection's opening or, if it was kept alive, of their first byte. The rest of a body that was answered
    before it had arrived has the same time.
    """

    def __init__(self, *arguments: Any, limits: ServerSettings, counts: Counter[str], **named: Any) -> None:
        """`counts`: the number of the server's open connections by address."""
        super().__init__(*arguments, **named)
        self._limits, self._counts = limits, counts
        self._address = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._in_message = self._in_headers = False
        self._header_bytes = 0  # parsed so far
        self._around = 0  # bytes of this message that are not body: of its headers, later since its headers
        self._at_hand = 0  # messages in the current data; with several, the start of the last one is unknown
        self._body_bytes = self._body_at_hand = 0  # of this message, and in the current data
        self._refusal: ApiError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._address = network(self.client[0]) if self.client else ""
        self._counts[self._address] += 1
        if self._counts[self._address] > self._limits.max_connections:
            self._refuse(
                ApiError(
                    429,
                    f"This address already has {self._limits.max_connections} connections. Close some, or reuse them.",
                    "too_many_connections",
                    headers={"Retry-After": "1"},
                )
            )
        else:
            self._begin_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._end_deadline()
        self._counts[self._address] -= 1
        if not self._counts[self._address]:
            del self._counts[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.transport.is_closing():
            return
        if not self._in_message and self._deadline is None:
            self._begin_deadline()
        self._at_hand, self._body_at_hand = int(self._in_message), 0
        super().data_received(data)
        if self.transport.is_closing() or not self._in_message or self._at_hand > 1:
            return
        self._around += len(data) - self._body_at_hand
        most = self._limits.max_header
        if self._around > (most if self._in_headers else 2 * most + BYTES_AROUND * self._body_bytes):
            self._refuse(self._too_large())

    def send_400_response(self, msg: str) -> None:
        """Called when parsing fails, also by an error that was raised here."""
        self._refuse(self._refusal or ApiError(400, f"{msg} Send HTTP/1.1.", "invalid_http"))

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_message = self._in_headers = True
        self._at_hand += 1
        self._header_bytes = self._around = self._body_bytes = 0
        if self._deadline is None:
            self._begin_deadline()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body, which is ignored."""
        self._count_header(len(name) + len(value) + len(": \r\n"))
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request can be answered."""
        self._end_deadline()
        self._in_headers, self._around = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        self._body_at_hand += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request has arrived."""
        self._end_deadline()
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The whole answer was sent."""
        super().on_response_complete()
        if self._in_message and not self.transport.is_closing():
            self._begin_deadline()

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.max_header:
            self._refusal = self._too_large()
            raise ValueError("the headers are too large")  # the parser stops, and calls `send_400_response`

    def _too_large(self) -> ApiError:
        most = self._limits.max_header
        return ApiError(431, f"The headers have more than {most:,} bytes. Send fewer.", "headers_too_large")

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
            return  # a response is being sent: the next request waits for its end
        if self._in_message and not self._in_headers:
            self.transport.close()  # it was answered already
            return
        seconds = self._limits.header_seconds
        message = f"The headers took more than {seconds:g} seconds. Send them at once."
        self._refuse(ApiError(408, message, "slow_header"))

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error and close; only close if another response is being sent."""
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
    """The key under which an address is counted: itself, or for IPv6 its network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_NETWORK), strict=False))
    return str(parsed)
