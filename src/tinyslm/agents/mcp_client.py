"""Tools of MCP servers (https://modelcontextprotocol.io), for servers that the user has named.

    with McpServer("python server.py") as server:
        agent = Agent(engine, server.tools)

A server's program is started without a shell, with the few environment variables that the SDK passes on. What it says
of its tools, and what they return, is data: descriptions are shortened, schemas are held to limits, results are text.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.inference.tools.schema import writable
from tinyslm.inference.tools.tool import LONGEST_DESCRIPTION, Tool, ToolError

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult
    from mcp.types import Tool as McpTool

MOST_TOOLS = 64
MOST_PAGES = 20


_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,30})=(.*)", re.DOTALL)


class McpServer:
    """A connection to an MCP server, while the block runs.

    Attributes: `tools`: what it offers; `left_out`: why others that it offers cannot be used, a sentence each.
    """

    def __init__(
        self, server: str, *, timeout: float = 30.0, prefix: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        """`server`: a command line, or an address (http:// or https://). `timeout`: seconds that it may take to answer.

        `prefix`: put before the names of its tools, to tell them from others. `environment`: more variables for its
        program. Raises `TinyslmError` for what is neither a command nor an address.
        """
        self.server, self.timeout, self.prefix = server, timeout, prefix
        self.environment = dict(environment or {})
        self.tools: list[Tool] = []
        self.left_out: list[str] = []
        self._stack = ExitStack()
        try:
            self._words = shlex.split(server)
        except ValueError as error:
            raise TinyslmError(f"{server!r:.200} is not a command: {error}.", "Check its quotes.") from None
        if not self._words:
            raise TinyslmError("No MCP server is named.", "Give its command line, or its address.")

    @classmethod
    def named(cls, text: str, *, timeout: float = 30.0) -> McpServer:
        """A server by its command or address; with `NAME=` before that, NAME_ is put before its tools' names."""
        match = _NAMED.fullmatch(text)
        return cls(match[2], timeout=timeout, prefix=f"{match[1]}_") if match else cls(text, timeout=timeout)

    def __enter__(self) -> McpServer:
        """Start it, or connect to it; raises `TinyslmError` where that fails."""
        try:
            from anyio.from_thread import start_blocking_portal
            from mcp import Client
        except ImportError:
            raise require_extra("agents", "Using MCP servers") from None
        try:
            portal = self._stack.enter_context(start_blocking_portal())
            client = Client(self._transport(), read_timeout_seconds=self.timeout, cache=None)
            self._client = self._stack.enter_context(portal.wrap_async_context_manager(client))
            self._portal = portal
            self._read(portal.call(_listed, self._client))
        except TinyslmError:
            self._stack.close()
            raise
        except Exception as error:
            self._stack.close()
            raise TinyslmError(
                f"The MCP server {self.server!r:.200} does not work: {_reason(error)}.",
                "Try its command or address by itself.",
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        """End the connection, and the program if one was started."""
        self._stack.close()

    def _transport(self) -> Any:
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client

        if self.server.startswith(("http://", "https://")):
            return self.server
        command, *arguments = self._words
        program = StdioServerParameters(command=command, args=arguments, env=self.environment or None)
        # Where notebooks and tests put another object in the place of standard error, a program cannot write to it.
        if sys.__stderr__ is not None:
            return stdio_client(program, errlog=sys.__stderr__)
        return stdio_client(program, errlog=self._stack.enter_context(Path(os.devnull).open("w", encoding="utf-8")))

    def _read(self, listed: Sequence[McpTool]) -> None:
        for one in listed:
            try:
                self.tools.append(self._tool(one))
            except TinyslmError as error:
                self.left_out.append(error.problem)

    def _tool(self, listed: McpTool) -> Tool:
        name = f"{self.prefix}{listed.name}"

        def call(**arguments: Any) -> str:
            return self._call(listed.name, arguments)

        description = (listed.description or "").strip()[:LONGEST_DESCRIPTION]
        return Tool(name, description, writable(listed.input_schema, name), call)

    def _call(self, name: str, arguments: dict[str, Any]) -> str:
        from mcp import MCPError

        async def call() -> CallToolResult:
            return await self._client.call_tool(name, arguments, read_timeout_seconds=self.timeout)

        try:
            result = self._portal.call(call)
        except MCPError as error:
            raise ToolError(f"{name} failed: {error.message}") from None
        except RuntimeError as error:
            raise ToolError(f"{name} failed: {_reason(error)}") from None
        text = _text(result)
        if result.is_error:
            raise ToolError(text or f"{name} failed.")
        return text


async def _listed(client: Client) -> list[McpTool]:
    """All tools, page by page."""
    tools: list[McpTool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) > MOST_TOOLS:
            break
    if len(tools) > MOST_TOOLS:
        raise TinyslmError(f"The MCP server has more than {MOST_TOOLS} tools.", "Use one with fewer.")
    return tools


def _text(result: CallToolResult) -> str:
    """What a tool gave, as text; images and the like are only named."""
    parts = []
    for block in result.content:
        text = getattr(block, "text", None) or getattr(getattr(block, "resource", None), "text", None)
        parts.append(text if isinstance(text, str) else f"({block.type}, which cannot be read)")
    return "\n".join(parts)


def _reason(error: BaseException) -> str:
    """What went wrong, in words: the first of the errors that a group holds."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
