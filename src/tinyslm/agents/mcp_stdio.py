"""MCP over standard input and output, as JSON-RPC 2.0 requires it where the SDK differs.

The SDK silently ignores lines that are not messages, which are answered with an error here; and it cancels what it is
still working on when standard input ends, which is finished here (`echo REQUEST | tinyslm mcp MODEL`).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tinyslm.core.strict_json import JsonError, parse_json

if TYPE_CHECKING:
    from mcp.server import MCPServer

LONGEST_LINE = 1 << 24  # bytes
LONGEST_WAIT = 60.0  # seconds for answers after standard input ended, which may also mean that the client is gone


def serve_stdio(server: MCPServer) -> None:
    """Serve until standard input ends and its requests are answered."""
    import anyio

    anyio.run(_serve, server)


async def _serve(server: MCPServer) -> None:
    from mcp.server.stdio import stdio_server
    from mcp.shared.message import SessionMessage
    from mcp_types import ErrorData, JSONRPCError

    async def refuse(code: int, message: str) -> None:
        error = JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=code, message=message))
        await writing.send(SessionMessage(error))

    unanswered = _Unanswered()
    lines = cast("Any", _Lines(sys.stdin.buffer, refuse, unanswered))
    async with stdio_server(stdin=lines) as (reading, writing):
        inner = server._lowlevel_server
        answers = cast("Any", _Answers(writing, unanswered))
        await inner.run(reading, answers, inner.create_initialization_options())


class _Unanswered:
    """The ids of requests that were read and not answered yet."""

    def __init__(self) -> None:
        import anyio

        self._ids: set[object] = set()
        self._changed = anyio.Event()

    def add(self, request: object) -> None:
        self._ids.add(request)

    def discard(self, request: object) -> None:
        import anyio

        self._ids.discard(request)
        self._changed.set()
        self._changed = anyio.Event()

    async def wait(self) -> None:
        """Return when all are answered, at the latest after `LONGEST_WAIT` seconds."""
        import anyio

        with anyio.move_on_after(LONGEST_WAIT):
            while self._ids:
                await self._changed.wait()


class _Answers:
    """The stream that the SDK writes its messages to; a message with an id and no method is an answer."""

    def __init__(self, stream: Any, unanswered: _Unanswered) -> None:
        self._stream, self._unanswered = stream, unanswered

    async def send(self, message: Any) -> None:
        await self._stream.send(message)
        if not hasattr(message.message, "method"):
            self._unanswered.discard(message.message.id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> _Answers:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stream.__aexit__(*error)


class _Lines:
    """The lines of standard input that are messages; others are answered with an error."""

    def __init__(
        self, stream: BinaryIO, refuse: Callable[[int, str], Awaitable[None]], unanswered: _Unanswered
    ) -> None:
        self._stream, self._refuse, self._unanswered = stream, refuse, unanswered

    async def __aiter__(self) -> AsyncIterator[str]:
        from anyio.to_thread import run_sync
        from mcp_types import INVALID_REQUEST, PARSE_ERROR, jsonrpc_message_adapter
        from pydantic import ValidationError

        while line := await run_sync(self._line, abandon_on_cancel=True):
            try:
                if len(line) > LONGEST_LINE:
                    raise JsonError(f"the line is longer than {LONGEST_LINE:,} bytes")
                message = jsonrpc_message_adapter.validate_python(parse_json(line), by_name=False)
            except JsonError as error:
                await self._refuse(PARSE_ERROR, f"The message is not valid JSON: {error}.")
            except ValidationError:
                await self._refuse(INVALID_REQUEST, "The message is not a JSON-RPC 2.0 request.")
            else:
                if not hasattr(message, "method"):
                    pass
                elif hasattr(message, "id"):
                    self._unanswered.add(message.id)
                elif message.method == "notifications/cancelled":
                    self._unanswered.discard((message.params or {}).get("requestId"))
                yield line.decode()
        await self._unanswered.wait()

    def _line(self) -> bytes:
        """The next line; of a line longer than `LONGEST_LINE`, only the beginning, which is longer still."""
        line = self._stream.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            while (rest := self._stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        return line
