"""OpenAI's batch format: each line is a request to the API, and is answered by the server's own routes, in process.

A line has a `custom_id`, the `method` POST, a `url` and a `body`; its result has an `id`, the `custom_id`, and a
`response` (status code, request id, body), or an `error` where the line was no request. Whatever model the body names,
it is answered by the one that is there.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import xxhash

from tinyslm.core.errors import require_extra
from tinyslm.core.printable import one_line
from tinyslm.serving.automation.answering import MOST_AHEAD
from tinyslm.serving.automation.results import Done, Result
from tinyslm.serving.automation.rows import Row

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

    from tinyslm.inference.engine import Engine

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
MODEL = "model"
RETRY_SECONDS = 0.05
"""Wait before a row is retried that was refused because the engine was full."""

_YEAR = 365 * 24 * 3600.0
_FIELDS = {"custom_id", "method", "url", "body"}


def is_request(row: Row) -> bool:
    """Whether a row is a line of OpenAI's format."""
    return row.values.keys() >= _FIELDS


def named_once(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows; a repeated `custom_id` becomes the problem of its row.

    Memory: a hash of 8 bytes for each row.
    """
    seen: set[int] = set()
    for row in rows:
        name = row.values.get("custom_id")
        digest = xxhash.xxh3_64_intdigest(json.dumps(name).encode())
        if name is not None and digest in seen and not row.problem:
            problem = f"an earlier line also has the custom_id {one_line(json.dumps(name), 100)}: make each unique"
            yield replace(row, problem=problem)
        else:
            yield row
        seen.add(digest)


def answer_requests(engine: Engine, rows: Iterator[Row], concurrency: int) -> Iterator[Done]:
    """The results of `rows`, in order, with at most `concurrency` requests under way."""
    app = _app(engine)
    more = True
    window: deque[tuple[Row, asyncio.Task[Result]]] = deque()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        while more or window:
            waiting = [task for _, task in window if not task.done()]
            while more and len(waiting) < concurrency and len(window) < MOST_AHEAD * concurrency:
                if (row := next(rows, None)) is None:
                    more = False
                else:
                    waiting.append(loop.create_task(_result(app, row)))
                    window.append((row, waiting[-1]))
            if window and window[0][1].done():
                row, task = window.popleft()
                yield _done(row, task.result())
            elif waiting:
                runner.run(_first(waiting))


async def _first(tasks: list[asyncio.Task[Result]]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def _done(row: Row, result: Result) -> Done:
    response = result["response"]
    usage = (response["body"].get("usage") or {}) if response else {}
    failed = response is None or response["status_code"] != 200
    prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    return Done(row, result, failed, prompt, usage.get("completion_tokens", usage.get("output_tokens", 0)))


async def _result(app: ASGIApp, row: Row) -> Result:
    """The line that answers a row's."""
    told = {"id": f"batch_req_{row.check}", "custom_id": row.values.get("custom_id")}
    if problem := row.problem or _wrong(row.values):
        return {**told, "response": None, "error": {"code": "invalid_request", "message": problem}}
    body = {**row.values["body"], "model": MODEL}
    data = json.dumps(body).encode()
    while (reply := await _post(app, row.values["url"], data)).status == HTTPStatus.TOO_MANY_REQUESTS:
        await asyncio.sleep(RETRY_SECONDS)
    response = {
        "status_code": reply.status,
        "request_id": f"req_{row.check}",
        "body": json.loads(reply.body.decode("utf-8", "replace")),
    }
    return {**told, "response": response, "error": None}


def _wrong(values: Mapping[str, Any]) -> str:
    """Why a line is no request; "" if it is one."""
    if missing := sorted(_FIELDS - values.keys()):
        return f"the line has no {', '.join(missing)}"
    if values["method"] != "POST":
        return f"the method is {values['method']!r:.20}; only POST is possible"
    if values["url"] not in URLS:
        return f"the url is {values['url']!r:.60}; possible are {', '.join(URLS)}"
    if not isinstance(values["body"], Mapping):
        return "the body is no object"
    if values["body"].get("stream"):
        return "a batch cannot be streamed: leave out stream"
    return ""


@dataclass
class _Reply:
    """What the app sends."""

    status: int = 500
    body: bytearray = field(default_factory=bytearray)


async def _post(app: ASGIApp, path: str, body: bytes) -> _Reply:
    """Send a body to the app as a server would, without a socket."""
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
    reply, left = _Reply(), [body]

    async def receive() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        await asyncio.Event().wait()  # this client does not leave
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
        else:
            reply.body += message.get("body", b"")

    await app(scope, receive, send)
    return reply


def _app(engine: Engine) -> ASGIApp:
    """The server's app around one engine, without the limits that protect a server from its clients."""
    try:
        from tinyslm.serving.app import create_app
        from tinyslm.serving.models import Models
        from tinyslm.serving.settings import ServerSettings
    except ImportError:
        raise require_extra("serve", "OpenAI's batch format") from None
    from pathlib import Path

    much = 2**31
    settings = ServerSettings(max_body=much, max_choices=much, max_prompts=much, max_requests=much, max_seconds=_YEAR)
    return create_app(settings, Models({MODEL: Path()}, lambda _path: engine))
