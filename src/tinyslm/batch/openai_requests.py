"""OpenAI's batch format: each line is a request to the API, answered by an ASGI app in this process.

A line has a `custom_id`, the `method` POST, a `url` and a `body`; its result has an `id`, the `custom_id`, and a
`response` (status code, request id, body) or, for an invalid line, an `error`. Whatever model the body names, the one
of the app answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import xxhash

from tinyslm.batch.answering import RowResult, in_order
from tinyslm.batch.generators import Result
from tinyslm.core.printable import one_line
from tinyslm.data.rows import Row

if TYPE_CHECKING:
    from starlette.types import ASGIApp

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
MODEL = "model"
"""The name of the app's model."""

RETRY_SECONDS = 0.05
"""Wait before a request is retried that was rejected because the engine was full."""

_FIELDS = {"custom_id", "method", "url", "body"}


def is_openai_request(row: Row) -> bool:
    """Whether a row has the fields of OpenAI's batch format."""
    return row.values.keys() >= _FIELDS


def unique_ids(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows; a repeated `custom_id` becomes the problem of its row. Takes 8 bytes of memory per row."""
    seen: set[int] = set()
    for row in rows:
        name = row.values.get("custom_id")
        digest = xxhash.xxh3_64_intdigest(json.dumps(name).encode())
        if name is not None and digest in seen and not row.problem:
            shown = one_line(json.dumps(name), 100)
            yield replace(row, problem=f"an earlier line also has the custom_id {shown}: make each unique")
        else:
            yield row
        seen.add(digest)


def answer_requests(app: ASGIApp, rows: Iterable[Row], concurrency: int) -> Generator[RowResult]:
    """The results of `rows`, in order, with at most `concurrency` requests in the app."""
    with _event_loop() as loop:

        def submit(row: Row) -> Future[Result]:
            return asyncio.run_coroutine_threadsafe(_answer(app, row), loop)

        for row, future in in_order(rows, submit, concurrency):
            result = future.result()
            response = result["response"] or {"status_code": 0, "body": {}}
            usage = response["body"].get("usage") or {}
            prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
            tokens = usage.get("completion_tokens", usage.get("output_tokens", 0))
            yield RowResult(row, result, response["status_code"] != 200, prompt, tokens)


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own; what still runs in it at the end of the block is cancelled."""
    with asyncio.Runner() as runner:
        loop, stopped = runner.get_loop(), asyncio.Event()
        thread = Thread(target=runner.run, args=(stopped.wait(),), name="tinyslm-batch", daemon=True)
        thread.start()
        try:
            yield loop
        finally:
            loop.call_soon_threadsafe(stopped.set)
            thread.join()


async def _answer(app: ASGIApp, row: Row) -> Result:
    common = {"id": f"batch_req_{row.check}", "custom_id": row.values.get("custom_id")}
    if problem := row.problem or _problem(row.values):
        return {**common, "response": None, "error": {"code": "invalid_request", "message": problem}}
    body = json.dumps({**row.values["body"], "model": MODEL}).encode()
    while (reply := await _post(app, row.values["url"], body))["status_code"] == 429:
        await asyncio.sleep(RETRY_SECONDS)
    return {**common, "response": {"request_id": f"req_{row.check}", **reply}, "error": None}


def _problem(values: Mapping[str, Any]) -> str:
    """Why a line is not a request; "" for a valid one."""
    if missing := sorted(_FIELDS - values.keys()):
        return f"the line has no {', '.join(missing)}"
    if values["method"] != "POST":
        return f"the method is {values['method']!r:.20}; only POST is supported"
    if values["url"] not in URLS:
        return f"the url is {values['url']!r:.60}; supported are {', '.join(URLS)}"
    if not isinstance(values["body"], Mapping):
        return "the body is not an object"
    if values["body"].get("stream"):
        return "a batch cannot be streamed: omit stream"
    return ""


async def _post(app: ASGIApp, path: str, body: bytes) -> Result:
    """The status code and the JSON body of the app's response, without a socket."""
    headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
    unread = [body]
    status, received = 500, bytearray()

    async def receive() -> dict[str, Any]:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await asyncio.Event().wait()  # this client does not disconnect
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, received
        status = message.get("status", status)
        received += message.get("body", b"")

    await app(scope, receive, send)
    return {"status_code": status, "body": json.loads(received.decode("utf-8", "replace"))}
