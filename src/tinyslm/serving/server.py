"""Listen, and serve until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.loops.auto import auto_loop_factory

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine
from tinyslm.serving.answers import LAST_EVENT_SECONDS
from tinyslm.serving.api_keys import ApiKeys
from tinyslm.serving.app import create_app
from tinyslm.serving.connections import connection_factory
from tinyslm.serving.models import Models, Source
from tinyslm.serving.service import Service
from tinyslm.serving.settings import ServerSettings

POLL_SECONDS = 0.02


def listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens at the address of the settings. Raises `TinyslmError` if it cannot.

    Connections have `TCP_NODELAY`: otherwise each small part of an answer waits 40 ms for the last one's confirmation.
    """
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, settings.port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TinyslmError(
            f"Could not listen on {host}, port {settings.port}: {reason}.",
            "Give another --port (0: any free one), or another address of this machine.",
        ) from None
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvloop sets it by itself, asyncio does not
    return listening


def address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Shuts down gracefully: new requests are rejected while answers have some time to end, then these are stopped."""

    def __init__(self, app: FastAPI, *, started: Callable[[], None] = lambda: None) -> None:
        """started: called when the server accepts requests."""
        self._service: Service = app.state.service
        self._started = started
        super().__init__(
            uvicorn.Config(
                app,
                http=connection_factory(self._service.settings),  # type: ignore[arg-type]  # called only
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                lifespan="on",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(2 * LAST_EVENT_SECONDS),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        admission = self._service.admission
        admission.closing = True
        await self._until_idle(self._service.settings.grace)
        admission.stop()
        await self._until_idle(LAST_EVENT_SECONDS)
        await super().shutdown(sockets)

    async def _until_idle(self, seconds: float) -> None:
        """Wait until no answer is under way, at most `seconds`, and not after a second Ctrl-C."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._service.admission.samples and not self.force_exit:
                    await asyncio.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down at SIGINT and SIGTERM and return; uvicorn would raise the signal again."""
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
        """See uvicorn; a second signal ends the waiting."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run(
    settings: ServerSettings,
    sources: Mapping[str, Source],
    load: Callable[[Source], Engine],
    keys: ApiKeys,
    listening: socket.socket,
    started: Callable[[Models], None],
) -> None:
    """Serve models until a signal; started: called when the server accepts requests, with the first model loaded.

    Raises `TinyslmError` if the first model cannot be loaded.
    """

    async def serve() -> None:
        memory, idle = int(settings.max_memory * 1e9), settings.max_idle * 60
        models = Models(sources, load, memory=memory, idle=idle)
        await models.load_first()
        await Server(create_app(settings, models, keys), started=lambda: started(models)).serve([listening])

    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve())
