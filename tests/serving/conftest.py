"""A server with a tiny random model over bytes, on a free port, in a thread of this process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_server import Running, make_model

from tinyslm.inference.opening import open_engine
from tinyslm.serving.api_keys import ApiKeys
from tinyslm.serving.app import create_app
from tinyslm.serving.models import Models
from tinyslm.serving.server import Server, address, listen
from tinyslm.serving.settings import ServerSettings


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("serving") / "tiny")


@pytest.fixture
def forked(fork_server) -> str:
    """`tinyslm` without waiting for its imports."""
    return str(fork_server.path / "tinyslm")


@pytest.fixture(scope="session")
def serve(model_folder: Path):
    """Runs a server: `with serve(max_requests=2) as running`; its model is called "tiny"."""

    @contextmanager
    def run(
        paths: dict[str, Path] | None = None, keys: ApiKeys | None = None, memory: int = 0, idle: float = 0, **settings
    ) -> Iterator[Running]:
        chosen = ServerSettings(port=0, **settings)
        models = Models(paths or {"tiny": model_folder}, open_engine, memory=memory, idle=idle)
        listening = listen(chosen)
        started = threading.Event()
        server = Server(create_app(chosen, models, keys), started=started.set)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        assert started.wait(60)
        running = Running(address(listening), server, models)
        try:
            yield running
        finally:
            running.client.close()
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()

    return run


@pytest.fixture(scope="session")
def running(serve) -> Iterator[Running]:
    """One server for all tests that need no settings."""
    with serve() as running:
        yield running
