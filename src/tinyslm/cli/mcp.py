"""`tinyslm mcp`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tinyslm.cli.asking import EngineOptions


def mcp(
    model: Path,
    /,
    *,
    port: int | None = None,
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
) -> None:
    """Be an MCP server with the tools complete, chat, classify and extract.

    Programs that use MCP servers start this command themselves, and speak with it over its standard input and output:
    give them `tinyslm mcp MODEL` as the server's command.

    Parameters
    ----------
    model
        A model folder, a run folder (its model is used) or a GGUF file (imported first).
    port
        Serve at http://127.0.0.1:PORT/mcp instead, for programs on this computer; there is no password.
    engine
        What computes.
    """
    from tinyslm.agents.mcp_server import mcp_server
    from tinyslm.agents.mcp_stdio import serve_stdio
    from tinyslm.cli.asking import opened
    from tinyslm.core.console import warn
    from tinyslm.core.errors import TinyslmError

    if port is not None and not 0 < port < 65_536:
        raise TinyslmError(f"{port} is no port.", "Give --port a number from 1 to 65535.")
    with opened(model, engine or EngineOptions()) as running:
        server = mcp_server(running)
        if port is None:
            serve_stdio(server)
        else:
            warn(f"Serving at http://127.0.0.1:{port}/mcp to every program on this computer.")
            server.run("streamable-http", host="127.0.0.1", port=port)
