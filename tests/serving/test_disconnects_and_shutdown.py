"""Clients that disconnect, and a server that shuts down while it answers."""

import asyncio
import json
import socket
import threading

import httpx
import pytest
from tiny_server import Running, make_model, wait_until

LONG = {"model": "long", "prompt": "x", "logit_bias": {"97": 100}}
CONTEXT = 16_000


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory):
    """A model with room for answers that take some seconds."""
    return make_model(tmp_path_factory.mktemp("long") / "long", context=CONTEXT, depth=1)


def engine_of(running: Running):
    return running.models.loaded()["long"]


def is_quiet(running: Running) -> bool:
    stats = engine_of(running).stats()
    return stats.running == stats.waiting == 0 and running.server._service.admission.samples == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_disconnects_frees_its_place(serve, long_model, stream, n) -> None:
    with serve({"long": long_model}) as running:
        host, port = running.url.removeprefix("http://").split(":")
        body = json.dumps(LONG | {"stream": stream, "n": n}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: engine_of(running).stats().generated_tokens > 20)
        wait_until(lambda: is_quiet(running))
        assert engine_of(running).stats().generated_tokens < n * CONTEXT // 2
        with running.http() as http:
            assert 'status="499"' in http.get("/metrics").text or stream


def stopped_while_streaming(running: Running, max_tokens: int) -> tuple[list[dict], httpx.Response]:
    """The events of a stream, and the response to another client, when the server shuts down."""
    with running.http() as http, running.http() as other:
        other.get("/health")
        body = LONG | {"stream": True, "max_tokens": max_tokens}
        with http.stream("POST", "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            running.server.should_exit = True
            wait_until(lambda: running.server._service.admission.closing)
            refused = other.post("/v1/completions", json=LONG)
            events = [line.removeprefix("data: ") for line in lines if line]
    return [json.loads(event) for event in events if event != "[DONE]"], refused


def test_shutdown_lets_streams_end_and_rejects_new_ones(serve, long_model) -> None:
    with serve({"long": long_model}, grace=60) as running:
        events, refused = stopped_while_streaming(running, 8000)
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert sum(len(event["choices"][0]["text"]) for event in events) >= 7900
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "closing"
    assert "retry-after" in refused.headers


def test_shutdown_ends_long_streams_with_an_error_event(serve, long_model) -> None:
    with serve({"long": long_model}, grace=0.1) as running:
        events, _ = stopped_while_streaming(running, CONTEXT)
    assert events[-1]["error"]["code"] == "closing"


def test_shutdown_leaves_no_threads(serve, long_model) -> None:
    before = set(threading.enumerate())
    with serve({"long": long_model}) as running, running.http() as http:
        http.post("/v1/completions", json=LONG | {"max_tokens": 2})
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/health")
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_disconnects_do_not_affect_other_clients(serve, long_model) -> None:
    async def ask(http: httpx.AsyncClient, number: int) -> str | None:
        form = {"type": "regex", "pattern": f"<{number:03}>{'a' * 60}"}
        body = {"model": "long", "prompt": "x" * number, "response_format": form, "stream": True, "max_tokens": 100}
        text = ""
        async with http.stream("POST", "/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
                    if number % 3 == 0:
                        return None
        return text

    async def ask_all(url: str) -> list[str | None]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
            return await asyncio.gather(*[ask(http, number) for number in range(60)])

    with serve({"long": long_model}) as running:
        texts = asyncio.run(ask_all(running.url))
        wait_until(lambda: is_quiet(running))
    for number, text in enumerate(texts):
        assert text == (None if number % 3 == 0 else f"<{number:03}>{'a' * 60}")
