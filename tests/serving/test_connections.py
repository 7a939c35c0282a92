"""Limits on connections, over real sockets: size and time of headers, connections per address."""

import json
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tinyslm.serving.connections import network
from tinyslm.serving.server import address, listen
from tinyslm.serving.settings import ServerSettings

HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BODY = b'{"model": "tiny", "prompt": "x"}'
LIMIT = 2_000


@pytest.fixture(scope="module")
def guarded(serve):
    with serve(max_header=LIMIT, header_seconds=0.3, max_connections=4) as running:
        yield running


class Client:
    """A connection."""

    def __init__(self, running) -> None:
        place = urlsplit(running.url)
        self._socket = socket.create_connection((place.hostname, place.port), timeout=30)
        self._reader = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._reader.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, dict]:
        """The status and the body of the next answer."""
        status = int(self._reader.readline().split(b" ")[1])
        lines = iter(self._reader.readline, b"\r\n")
        headers = dict(line.strip().lower().split(b": ", 1) for line in lines)
        return status, json.loads(self._reader.read(int(headers[b"content-length"])))

    def refusal(self) -> tuple[int, str]:
        """The status and the code of an error, after which the connection is closed."""
        status, body = self.answer()
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert self.closed()
        return status, body["error"]["code"]

    def closed(self) -> bool:
        return self._reader.read(1) == b""


def test_answers_are_sent_without_delay() -> None:
    """Small packets do not wait for the confirmation of the one before."""
    with listen(ServerSettings(port=0)) as listening:
        place = urlsplit(address(listening))
        with socket.create_connection((place.hostname, place.port), timeout=30), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


TOO_LARGE = {
    "an endless line": [HEAD + b"X: ", *[b"x" * 500] * 5],
    "an endless target": [b"GET /", *[b"x" * 500] * 5],
    "many headers": [HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(300)) + b"\r\n"],
    "one long header": [HEAD + b"X: " + b"x" * LIMIT + b"\r\n\r\n"],
    "an endless trailer": [
        POST + b"Transfer-Encoding: chunked\r\n\r\n",
        b"%x\r\n%b\r\n0\r\nX: " % (len(BODY), BODY),
        *[b"x" * 500] * 10,
    ],
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_headers_are_rejected_as_soon_as_they_are_too_large(guarded, what) -> None:
    with Client(guarded) as client:
        for part in TOO_LARGE[what]:
            client.send(part)
        assert client.refusal() == (431, "headers_too_large")


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"X: "])
def test_incomplete_headers_time_out(guarded, sent) -> None:
    with Client(guarded) as client:
        client.send(sent)
        assert client.refusal() == (408, "slow_header")


@pytest.mark.parametrize("sent", [b"G", HEAD])
def test_incomplete_headers_on_a_kept_connection_time_out(guarded, sent) -> None:
    with Client(guarded) as client:
        client.send(HEAD + b"\r\n")
        assert client.answer() == (200, {"status": "ok"})
        client.send(sent)
        assert client.refusal() == (408, "slow_header")


def test_the_rest_of_an_unread_body_times_out(guarded) -> None:
    with Client(guarded) as client:
        client.send(HEAD + b"Content-Length: 9\r\n\r\n123")
        assert client.answer() == (200, {"status": "ok"})
        assert client.closed()


def test_requests_are_answered_however_they_are_split(guarded) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY * 40)  # more bytes around the body than headers may have
    whole = HEAD + b"X: " + b"x" * (LIMIT - 100) + b"\r\n\r\n"
    spaces = b" " * 4_000
    with Client(guarded) as client:
        for request, status in (
            (whole, 200),
            (whole * 3, 200),
            (POST + b"Content-Length: %d\r\n\r\n" % (len(spaces) + len(BODY)) + spaces + BODY, 200),
            (POST + b"Content-Length: %d\r\n\r\n" % (len(spaces) + len(BODY)) + spaces + BODY, 200),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", 400),
        ):
            for place in range(0, len(request), 700):
                client.send(request[place : place + 700])
            for _ in range(3 if request == whole * 3 else 1):
                assert client.answer()[0] == status


def test_several_host_headers_are_rejected(guarded) -> None:
    with Client(guarded) as client:
        client.send(HEAD + b"Host: evil.example\r\n\r\n")
        status, body = client.answer()
        assert (status, body["error"]["param"]) == (400, "Host")


def test_other_protocols_are_rejected(guarded) -> None:
    with Client(guarded) as client:
        client.send(b"\x16\x03\x01 hello\r\n\r\n")
        assert client.refusal() == (400, "invalid_http")


def test_connections_per_address_are_limited(guarded) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(guarded)) for _ in range(4)]
        for client in clients:
            client.send(HEAD + b"\r\n")
            assert client.answer()[0] == 200
        with Client(guarded) as one_more:
            assert one_more.refusal() == (429, "too_many_connections")
        clients[0].__exit__()
        clients[1].send(HEAD + b"\r\n")  # answered after the server has seen the other one's end
        assert clients[1].answer()[0] == 200
        with Client(guarded) as another:
            another.send(HEAD + b"\r\n")
            assert another.answer()[0] == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1", "127.0.0.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_IPv6_network_counts_as_one_address(one, other, same) -> None:
    assert (network(one) == network(other)) is same
