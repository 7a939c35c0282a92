"""Reading web pages: of listed hosts only, whatever a page or a name server says."""

import socket
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tools import fetch as fetch_module
from tinyslm.inference.tools.fetch import fetch_tool
from tinyslm.inference.tools.tool import ToolError


class Pages(BaseHTTPRequestHandler):
    """Paths stand for what can happen."""

    def do_GET(self):
        kind, _, rest = self.path.lstrip("/").partition("/")
        headers, body, status = {"Content-Type": "text/plain"}, b"hello", 200
        if kind == "html":
            headers = {"Content-Type": "text/html; charset=utf-8"}
            body = "<title>t</title><script>evil()</script><p>Käse &amp; <b>Brot</b></p>".encode()
        elif kind == "to":
            headers, status = {"Location": rest.replace("_", "://", 1) if "_" in rest else f"/{rest}"}, 302
        elif kind == "loop":
            headers, status = {"Location": "/loop"}, 302
        elif kind == "image":
            headers = {"Content-Type": "image/png"}
        elif kind == "zipped":
            headers["Content-Encoding"] = "gzip"
        elif kind == "huge":
            body = b"x" * (3 << 20)
        elif kind == "missing":
            status = 404
        elif kind == "latin":
            headers, body = {"Content-Type": "text/plain; charset=latin-1"}, b"K\xe4se"
        elif kind == "odd":
            headers, body = {"Content-Type": "text/plain; charset=no-such"}, b"ok"
        elif kind == "said":
            body = f"{self.path} {self.headers['Host']}".encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # they had enough
            self.wfile.write(body)

    def log_message(self, *values): ...


@pytest.fixture(scope="module")
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fetch(port):
    tool = fetch_tool([f"127.0.0.1:{port}"])
    return lambda path: tool(f"http://127.0.0.1:{port}/{path}")


def test_texts_and_pages(fetch, port):
    assert fetch("plain") == "hello"
    assert fetch("html") == "Käse & Brot"
    assert fetch("latin") == "Käse"
    assert fetch("odd") == "ok"
    assert fetch("said/ä b?q=1&x=%20".replace(" ", "+")) == f"/said/%C3%A4+b?q=1&x=%20 127.0.0.1:{port}"
    assert fetch("to/plain") == "hello"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing", "404"),
        ("image", "not text"),
        ("zipped", "not text"),
        ("huge", "longer than"),
        ("loop", "redirects"),
        ("to/http_example.com/", "may not be read"),
        ("to/file_/etc/passwd", "not a URL"),
        ("to/http_127.0.0.1:1/", "may not be read"),
        ("to/http_localhost/", "may not be read"),
    ],
)
def test_what_a_server_may_not_do(fetch, path, words):
    with pytest.raises(ToolError, match=words):
        fetch(path)


def endlessly(connection, kind):
    """A server that always sends a little more, in time for each receipt: of the status, the headers or the body."""
    with suppress(OSError), connection:
        connection.recv(1000)
        connection.sendall({"status": b"", "headers": b"HTTP/1.1 200 OK\r\n", "body": b"HTTP/1.1 200 OK\r\n\r\n"}[kind])
        part = {"status": b"HTTP/1.1 100 Continue\r\n\r\n", "headers": b"X", "body": b"x"}[kind]
        for _ in range(600):
            connection.sendall(part)
            time.sleep(0.01)


@pytest.mark.parametrize("kind", ["status", "headers", "body"])
def test_the_deadline_counts_from_the_first_byte_to_the_last(kind, monkeypatch):
    monkeypatch.setattr(fetch_module, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        thread = Thread(target=lambda: endlessly(server.accept()[0], kind))
        thread.start()
        with pytest.raises(ToolError, match=r"longer than 0\.3 seconds"):
            fetch_tool([place])(f"http://{place}/")
        thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "http://example.com.evil.org/",
        "http://evil.example.com/",
        "http://example.com:8080/",
        "http://example.com@evil.org/",
        "http://user:pass@example.com/",
        "http://evil.org#@example.com/",
        "http://evil.org?example.com",
        "http://evil.org\\@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http://[::1/",
        "http://example.com:99999/",
        "http://example.com/a b",
        "http://example.com/\r\nHost: evil.org",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
def test_addresses_that_are_not_listed(url, monkeypatch):
    monkeypatch.setattr(fetch_module.socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    with pytest.raises(ToolError):
        fetch_tool(["example.com"])(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::10.0.0.1",
    ],
)
def test_a_listed_name_that_leads_to_a_private_address(address, monkeypatch):
    """As a name server may say so, at first or only the second time: what was checked is what is connected to."""
    monkeypatch.setattr(fetch_module.socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answers = [
        (family, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80)),
        (family, socket.SOCK_STREAM, 6, "", (address, 80)),
    ]
    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(ToolError, match="private"):
        fetch_tool(["example.com"])("http://example.com/")


def test_the_connection_goes_to_the_address_that_was_checked(port, monkeypatch):
    real, looked_up = socket.getaddrinfo, []

    def once(host, *rest, **named):
        looked_up.append(host)
        return real("127.0.0.1" if host == "shop.test" else host, *rest, **named)

    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", once)
    tool = fetch_tool([f"shop.test:{port}", "127.0.0.1"])
    assert tool(f"http://shop.test:{port}/said/x") == f"/said/x shop.test:{port}"
    assert looked_up.count("shop.test") == 1


def test_private_names_need_their_address_listed_too(port):
    with pytest.raises(ToolError, match="private"):
        fetch_tool([f"localhost:{port}"])(f"http://localhost:{port}/plain")


def test_nobody_is_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ToolError, match="could not be read"):
        fetch_tool([place])(f"http://{place}/")


@pytest.mark.parametrize("host", ["", "http://example.com", "a b", "*", "*.example.com", "a:b", "a:99999", "a/b"])
def test_what_is_no_host(host):
    with pytest.raises(TinyslmError, match=r"not a host|No host"):
        fetch_tool([host])


def test_the_tool_says_what_it_may_read():
    assert fetch_tool(["example.com"]).description.endswith("Only of: example.com.")
    with pytest.raises(TinyslmError, match="No host"):
        fetch_tool([])
