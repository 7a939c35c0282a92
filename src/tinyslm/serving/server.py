"""Listen, and serve until a signal. SIGHUP reloads keys and models."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from tinyslm.serving.page import Page
from tinyslm.serving.service import Service
from tinyslm.serving.settings import ServerSettings

LOG = logging.getLogger("tinyslm.serving")

POLL_SECONDS = 0.02

STANDARD_FILES = (0, 1, 2)


@dataclass(frozen=True)
class Configuration:
    """Read models by name, and keys, at the start and again at SIGHUP. Both raise `TinyslmError`.

    pages: in addition to the chat page.
    """

    sources: Callable[[], Mapping[str, Source]]
    keys: Callable[[], ApiKeys]
    pages: Sequence[Page] = ()


def listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens at the address of the settings. Raises `TinyslmError` if it cannot.

    Connections have `TCP_NODELAY`: otherwise each small part of an answer waits 40 ms for the last one's confirmation.
    """
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, settings.port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while ")[0]
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

    def __init__(
        self,
        app: FastAPI,
        *,
        started: Callable[[], None] = lambda: None,
        configuration: Configuration | None = None,
    ) -> None:
        """started: called when the server accepts requests. configuration: what SIGHUP reloads."""
        self._service: Service = app.state.service
        self._started, self._configuration = started, configuration
        self._hung_up = False
        self._reloads: set[asyncio.Task[None]] = set()
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

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._hung_up:
            self._hung_up = False
            self._reloads = {task for task in self._reloads if not task.done()}
            self._reloads.add(asyncio.ensure_future(self._reload()))
        return await super().on_tick(counter)

    async def _reload(self) -> None:
        """Take over keys and models as they are now; what cannot be read stays as it was."""
        assert self._configuration is not None
        try:
            self._service.keys = self._configuration.keys()
            LOG.info("Reloaded the keys.")
        except TinyslmError as error:
            LOG.error("The keys stay as they were: %s %s", error.problem, error.remedy)
        try:
            changes = await self._service.models.reload(self._configuration.sources())
            what = ", ".join(f"{name}: {change}" for name, change in changes.items())
            LOG.info("Reloaded the models: %s.", what or "none has changed")
        except TinyslmError as error:
            LOG.error("The models stay as they were: %s %s", error.problem, error.remedy)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        admission = self._service.admission
        admission.closing = True
        LOG.info("Stopping; answers under way: %d.", admission.samples)
        await self._until_idle(self._service.settings.grace)
        self._service.stop()
        await self._until_idle(LAST_EVENT_SECONDS)
        await super().shutdown(sockets)
        LOG.info("Stopped.")

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
        with _handling(self.handle_exit, "SIGINT", "SIGTERM"):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """See uvicorn; a second signal ends the waiting."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_hangup(self) -> Iterator[None]:
        """Reload at SIGHUP; but shut down if it says that the server's terminal was closed."""
        terminals = [number for number in STANDARD_FILES if os.isatty(number)]

        def handle(sig: int, frame: FrameType | None) -> None:
            if not all(os.isatty(number) for number in terminals):
                self.handle_exit(sig, frame)
            else:
                self._hung_up = True

        with _handling(handle, "SIGHUP"):
            yield


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], *names: str) -> Iterator[None]:
    """Handle signals while the block runs, those that this system has."""
    signals = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
    before = {sign: signal.signal(sign, handler) for sign in signals}
    try:
        yield
    finally:
        for sign, handled in before.items():
            signal.signal(sign, handled)


def run(
    settings: ServerSettings,
    configuration: Configuration,
    load: Callable[[Source], Engine],
    started: Callable[[Models, str], None],
) -> None:
    """Serve models until a signal.

    started: called when the server accepts requests, with the models, of which the first is loaded, and the URL.
    Raises `TinyslmError` for a wrong configuration, if it cannot listen, and if the first model cannot be loaded.
    """
    keys, sources = configuration.keys(), configuration.sources()

    async def serve(listening: socket.socket) -> None:
        memory, idle = int(settings.max_memory * 1e9), settings.max_idle * 60
        models = Models(sources, load, memory=memory, idle=idle)
        app = create_app(settings, models, keys, configuration.pages)
        server = Server(app, started=lambda: started(models, address(listening)), configuration=configuration)
        with server.capture_hangup():
            await models.load_first()
            await server.serve([listening])

    with listen(settings) as listening, asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve(listening))
