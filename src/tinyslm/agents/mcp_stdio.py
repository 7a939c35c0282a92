"""MCP over standard input and output, with an answer to lines that are not messages.

The SDK silently ignores such lines; JSON-RPC 2.0 requires an error response with a null id.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tinyslm.core.strict_json import JsonError, parse_json

if TYPE_CHECKING:
    from mcp.server import MCPServer

LONGEST_LINE = 1 << 24  # bytes


def serve_stdio(server: MCPServer) -> None:
    """Serve until standard input ends."""
    import anyio

    anyio.run(_serve, server)


async def _serve(server: MCPServer) -> None:
    from mcp.server.stdio import stdio_server
    from mcp.shared.message import SessionMessage
    from mcp_types import ErrorData, JSONRPCError

    async def refuse(code: int, message: str) -> None:
        error = JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=code, message=message))
        await writing.send(SessionMessage(error))

    lines = cast("Any", _Lines(sys.stdin.buffer, refuse))
    async with stdio_server(stdin=lines) as (reading, writing):
        inner = server._lowlevel_server
        await inner.run(reading, writing, inner.create_initialization_options())


class _Lines:
    """The lines of standard input that are messages; others are answered with an error."""

    def __init__(self, stream: BinaryIO, refuse: Callable[[int, str], Awaitable[None]]) -> None:
        self._stream, self._refuse = stream, refuse

    async def __aiter__(self) -> AsyncIterator[str]:
        from anyio.to_thread import run_sync
        from mcp_types import INVALID_REQUEST, PARSE_ERROR, jsonrpc_message_adapter
        from pydantic import ValidationError

        while line := await run_sync(self._line, abandon_on_cancel=True):
            try:
                if len(line) > LONGEST_LINE:
                    raise JsonError(f"the line is longer than {LONGEST_LINE:,} bytes")
                value = parse_json(line)
                jsonrpc_message_adapter.validate_python(value, by_name=False)
            except JsonError as error:
                await self._refuse(PARSE_ERROR, f"The message is not valid JSON: {error}.")
            except ValidationError:
                await self._refuse(INVALID_REQUEST, "The message is not a JSON-RPC 2.0 request.")
            else:
                yield line.decode()

    def _line(self) -> bytes:
        """The next line; of a line longer than `LONGEST_LINE`, only the beginning, which is longer still."""
        line = self._stream.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            while (rest := self._stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        return line
