"""Two servers behind nginx, with the configuration of docs/many-machines.md, while one of them is killed."""

import asyncio
import json
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from serve_program import program
from test_nginx import MAIN, NAME, NGINX, listens
from tiny_server import make_model, wait_until

GUIDE = Path(__file__).parents[2] / "docs/many-machines.md"
CLIENTS, LENGTH = 200, 100

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@dataclass
class Behind:
    """nginx in front of two servers, which are processes of their own."""

    url: str
    servers: list[subprocess.Popen[str]]
    folder: Path


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    model = make_model(tmp_path / "tiny", depth=1)
    with ExitStack() as stack:
        more = ("--allow-host", NAME, "--max-connections", "1000", "--max-requests", "1000")
        started = [stack.enter_context(program(model, *more)) for _ in range(2)]
        port = configure(tmp_path, [url.rpartition(":")[2] for url, _ in started])
        log = stack.enter_context((tmp_path / "nginx.log").open("w"))
        nginx = subprocess.Popen([NGINX, "-p", str(tmp_path), "-c", "nginx.conf"], stderr=log)
        try:
            wait_until(lambda: listens(port) or nginx.poll() is not None)
            assert nginx.poll() is None, (tmp_path / "nginx.log").read_text()
            yield Behind(f"http://127.0.0.1:{port}", [process for _, process in started], tmp_path)
        finally:
            nginx.terminate()
            nginx.wait(30)


def configure(folder: Path, servers: list[str]) -> int:
    """Write the guide's configuration with other ports, and without TLS, which test_nginx.py tries."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = re.search(r"```nginx\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    site = re.sub(r" *ssl_certificate.*\n", "", site)
    changes = {f"127.0.0.1:{usual}": f"127.0.0.1:{own}" for usual, own in zip((8000, 8001), servers, strict=True)}
    for old, new in {**changes, "listen 443 ssl": f"listen 127.0.0.1:{port}"}.items():
        assert old in site
        site = site.replace(old, new)
    (folder / "nginx.conf").write_text(MAIN.format(site=site).replace("connections 64", "connections 1024"))
    return port


async def ask(client: httpx.AsyncClient, number: int) -> str:
    """A client whose whole answer is one letter, again and again; returns what came of it."""
    letter = chr(ord("!") + number % 90)
    body = {"model": "tiny", "prompt": f"client {number}", "logit_bias": {str(ord(letter)): 100}}
    body |= {"stream": True, "max_tokens": LENGTH}
    text, ended = "", False
    headers = {"X-Session-Id": f"session {number}", "Host": NAME}
    try:
        async with client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
            if response.status_code != 200:
                error = json.loads(await response.aread())["error"]
                assert error["message"]
                return f"error {response.status_code}"
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data: "):
                    text += json.loads(line[6:])["choices"][0]["text"]
    except httpx.RemoteProtocolError:
        ended = False  # the connection ended in the middle of the stream
    assert set(text) <= {letter}, "nobody gets another client's answer"
    if ended:
        assert len(text) == LENGTH
    return "whole" if ended else "cut"


def asked(behind: Behind, numbers: range, meanwhile=lambda: None) -> Counter:
    """What came of so many clients at once; `meanwhile` is done in the middle."""

    async def run() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=behind.url, timeout=300, limits=limits, verify=False) as client:
            asking = [asyncio.create_task(ask(client, number)) for number in numbers]
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(meanwhile)
            return await asyncio.gather(*asking)

    return Counter(asyncio.run(run()))


def test_200_clients_while_a_server_is_killed(behind: Behind) -> None:
    first, second = behind.servers
    found = asked(behind, range(CLIENTS), first.kill)
    assert found.total() == CLIENTS
    assert found["whole"] >= CLIENTS // 4, found
    assert set(found) <= {"whole", "cut"}, "requests whose answer had not begun went to the other server"
    assert asked(behind, range(50)) == {"whole": 50}  # the other server answers everything
    second.kill()
    second.wait()
    assert asked(behind, range(3)) == {"error 503": 3}  # as JSON, like the server's own errors


def test_a_server_is_drained_and_sessions_stay_where_they_are(behind: Behind) -> None:
    first, second = behind.servers

    def restart() -> None:
        first.send_signal(signal.SIGTERM)
        first.wait(60)

    numbers = range(40)
    assert asked(behind, numbers, restart) == {"whole": 40}
    assert asked(behind, numbers) == {"whole": 40}
    second.send_signal(signal.SIGTERM)
    logs = [server.communicate(timeout=60)[1] for server in behind.servers]
    served = [len(re.findall(r"POST /v1/completions 200", log)) for log in logs]
    assert sum(served) == 80
    assert 5 < served[0] < 35, "each had its sessions"
