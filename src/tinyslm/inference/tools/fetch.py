"""A tool that reads web pages of hosts that the user has listed. Without a list there is no network.

A listed name is not enough: the addresses that it stands for are looked up here, private ones (this computer, the
local network) are refused unless they are listed themselves, and the connection goes to an address that has been
checked, so that a second look-up cannot give another one. Every redirect goes through the same checks.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from tinyslm.core.errors import TinyslmError
from tinyslm.data.html import decode_page
from tinyslm.data.page_text import shown_text
from tinyslm.inference.tools.tool import Tool, ToolError

MOST_BYTES = 2 << 20
SECONDS = 20.0
MOST_REDIRECTS = 5
LONGEST_URL = 2_000
PORTS = {"http": 80, "https": 443}

_URL_SIGNS = "/?&=%+,;:@!$'()*~[]"

_HOST = re.compile(r"\[[0-9a-fA-F:.]+\](:\d{1,5})?|[A-Za-z0-9._-]+(:\d{1,5})?")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_TEXT = re.compile(r"text/|application/(json|xml|[\w.-]+\+(json|xml))\b")


def fetch_tool(hosts: Iterable[str]) -> Tool:
    """`fetch`, which reads pages of `hosts`: names or addresses, with a port if it is not the usual one.

    Raises `TinyslmError` for what is not a host.
    """
    allowed = _Allowed.of(hosts)

    def fetch(url: str) -> str:
        """Read a web page, or a text or JSON document.

        Args:
            url: its address, beginning with https:// or http://.
        """
        deadline = time.monotonic() + SECONDS
        for _ in range(MOST_REDIRECTS + 1):
            answer = _get(allowed, url, deadline)
            if isinstance(answer, str):
                return answer
            url = urljoin(url, answer.url)
        raise ToolError(f"More than {MOST_REDIRECTS} redirects.")

    summary = f"{fetch.__doc__}".split("Args:", maxsplit=1)[0].strip()
    return Tool.from_function(fetch, description=f"{summary} Only of: {', '.join(sorted(allowed.hosts))}.")


@dataclass(frozen=True)
class _Redirect:
    url: str


@dataclass(frozen=True)
class _Allowed:
    """What the user has listed: hosts with ports ("example.com:443"), and the addresses among them."""

    hosts: frozenset[str]
    addresses: frozenset[ipaddress.IPv4Address | ipaddress.IPv6Address]
    ports: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, hosts: Iterable[str]) -> _Allowed:
        listed = frozenset(one.strip().lower() for one in hosts)
        ports: set[tuple[str, int]] = set()
        addresses = set()
        for one in listed:
            name, port = _host_and_port(one)
            ports |= {(name, usual) for usual in ((port,) if port else PORTS.values())}
            if address := _address(name):
                addresses.add(address)
        if not listed:
            raise TinyslmError("No host is listed.", "Name the hosts that may be read, such as fetch=example.com.")
        return cls(listed, frozenset(addresses), frozenset(ports))

    def target(self, url: str) -> tuple[SplitResult, str, int]:
        """A URL's parts, host and port; raises `ToolError` for one that may not be read."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip(".").lower(), parts.port or PORTS.get(parts.scheme, 0)
        except ValueError:
            raise ToolError("This is not a URL.") from None
        if parts.scheme not in PORTS or not host or len(url) > LONGEST_URL or re.search(r"[\s\x00-\x1f\x7f]", url):
            raise ToolError("This is not a URL that begins with https:// or http://.")
        if parts.username is not None or parts.password is not None:
            raise ToolError("A URL with a name or a password is not read.")
        if (host, port) not in self.ports:
            raise ToolError(f"{host}:{port} may not be read; only: {', '.join(sorted(self.hosts))}.")
        return parts, host, port

    def resolve(self, host: str, port: int) -> str:
        """An address of the host to connect to; raises `ToolError` where all, or some, are private and not listed."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise ToolError(f"{host} cannot be found.") from None
        addresses = [str(one[4][0]).partition("%")[0] for one in found]
        for text in addresses:
            address = _address(text)
            if address is None or not (_public(address) or address in self.addresses):
                raise ToolError(f"{host} leads to a private address, which may not be read.")
        return addresses[0]


def _host_and_port(listed: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{listed}")
        if _HOST.fullmatch(listed) and parts.hostname:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise TinyslmError(f"{listed!r:.80} is not a host.", "Give names such as example.com or localhost:8000.")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the internet's; one that stands for another (IPv4 within IPv6) counts as that."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            within = ipaddress.IPv4Address(address.packed[-4:])
        if within is not None:
            return _public(within)
    return address.is_global and not address.is_multicast


def _get(allowed: _Allowed, url: str, deadline: float) -> str | _Redirect:
    """What is at a URL, as text, or where it has moved to."""
    parts, host, port = allowed.target(url)
    address = allowed.resolve(host, port)
    connection = _Connection(host, port, address, deadline, secure=parts.scheme == "https")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Accept": "text/*, application/json", "Accept-Encoding": "identity", "User-Agent": "tinyslm"}
    timer = threading.Timer(_left(deadline), connection.end)
    timer.start()
    try:
        connection.request("GET", quote(path, safe=_URL_SIGNS), headers=headers)
        answer = connection.getresponse()
        if answer.status in (301, 302, 303, 307, 308) and (place := answer.getheader("Location")):
            return _Redirect(place)
        if answer.status != 200:
            raise ToolError(f"{host} answers {answer.status} {answer.reason}.")
        return _text(answer, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        _left(deadline)
        raise ToolError(f"{host} could not be read: {error or type(error).__name__}.") from None
    finally:
        timer.cancel()
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that has been checked, in the name of its host."""

    def __init__(self, host: str, port: int, address: str, deadline: float, *, secure: bool) -> None:
        super().__init__(host, port, timeout=_left(deadline))
        self._address, self._secure = address, secure
        self._in_use: socket.socket | None = None  # still set when the response has taken it over

    def connect(self) -> None:
        self.sock = self._in_use = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self._in_use = self.sock
            self.sock.do_handshake()

    def end(self) -> None:
        """Abort the transfer from another thread, however slowly it proceeds."""
        if self._in_use:
            with suppress(OSError):  # it is closed already
                self._in_use.shutdown(socket.SHUT_RDWR)


def _text(answer: http.client.HTTPResponse, deadline: float) -> str:
    kind = answer.getheader("Content-Type", "text/plain").lower()
    if not _TEXT.match(kind) or answer.getheader("Content-Encoding", "identity") != "identity":
        raise ToolError(f"This is not text but {kind.partition(';')[0]}.")
    content = b""
    while part := answer.read1(1 << 16):
        content += part
        if len(content) > MOST_BYTES:
            raise ToolError(f"This is longer than {MOST_BYTES} bytes.")
        _left(deadline)
    _left(deadline)
    charset = answer.headers.get_content_charset("")
    if "html" in kind:
        page = decode_page(content, charset) or decode_page(content) or content.decode("utf-8", "replace")
        return shown_text(page)
    try:
        return content.decode(charset or "utf-8", "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ToolError(f"Reading took longer than {SECONDS:g} seconds.")
    return left
