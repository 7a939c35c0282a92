"""Running the server until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.loops.auto import auto_loop_factory

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine
from tinyslm.serving.app import create_app
from tinyslm.serving.bridge import LAST_WORDS
from tinyslm.serving.connections import guarded
from tinyslm.serving.keys import Keys
from tinyslm.serving.models import Models
from tinyslm.serving.service import Service
from tinyslm.serving.settings import ServerSettings

SECONDS_BETWEEN_LOOKS = 0.02


def listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens where the settings say; raises `TinyslmError` when that is not possible."""
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, settings.port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TinyslmError(
            f"Could not listen on {host}, port {settings.port}: {reason}.",
            "Give another --port (0: any free one), or an address of this machine.",
        ) from None


def address(listening: socket.socket) -> str:
    """The URL of a server on this socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Ends in order: first new requests are refused while answers are given time to end, then these are cancelled."""

    def __init__(self, app: FastAPI, *, started: Callable[[], None] = lambda: None) -> None:
        """`started` is called once requests are taken."""
        self._service: Service = app.state.service
        self._tell_started = started
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded(self._service.settings),  # type: ignore[arg-type]  # called only
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                lifespan="on",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(2 * LAST_WORDS),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        traffic = self._service.traffic
        traffic.closing = True
        await self._until_quiet(self._service.settings.grace)
        traffic.stop()
        await self._until_quiet(LAST_WORDS)
        await super().shutdown(sockets)

    async def _until_quiet(self, seconds: float) -> None:
        """Wait until no answer is under way, at most so long, and not after a second Ctrl-C."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._service.traffic.samples and not self.force_exit:
                    await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in order at SIGINT and SIGTERM; afterwards the program goes on (uvicorn would end it by the signal)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sign: signal.signal(sign, self.handle_exit) for sign in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """See uvicorn; any second signal ends the waiting."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run(
    settings: ServerSettings,
    paths: Mapping[str, Path],
    load: Callable[[Path], Engine],
    keys: Keys,
    listening: socket.socket,
    started: Callable[[], None],
) -> None:
    """Serve models until a signal ends it; `started` is called once requests are taken.

    Raises `TinyslmError` when the first model cannot be loaded.
    """

    async def until_stopped() -> None:
        memory, idle = int(settings.max_memory * 1e9), settings.max_idle * 60
        models = Models(paths, load, memory=memory, idle=idle)
        await models.load_first()
        await Server(create_app(settings, models, keys), started=started).serve([listening])

    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(until_stopped())
