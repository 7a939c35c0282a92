"""A server with a tiny random model over bytes, on a free port, in a thread of this process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import torch

from tinyslm.inference.engine import Engine
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.serving.app import create_app
from tinyslm.serving.keys import Keys
from tinyslm.serving.models import Models
from tinyslm.serving.running import Server, address, listen
from tinyslm.serving.settings import ServerSettings
from tinyslm.tokenizer.training import train_tokenizer

CONTEXT = 1024


@dataclass
class Running:
    """A server that runs: its URL, and the thing itself."""

    url: str
    server: Server
    models: Models

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def http(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("serving") / "tiny")


def make_model(folder: Path, seed: int = 4, *, chats: bool = True, **shape) -> Path:
    tokenizer = train_tokenizer([], kind="byte")
    torch.manual_seed(seed)
    sizes = {"dim": 32, "heads": 4, "depth": 2, "context": CONTEXT, "vocab_size": tokenizer.vocab_size, **shape}
    model = Decoder(ModelConfig(family="qwen3", **sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    save_model(model, folder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def serve(model_folder: Path):
    """Runs a server: `with serve(max_requests=2) as running`; its model is called "tiny"."""

    @contextmanager
    def run(
        paths: dict[str, Path] | None = None, keys: Keys | None = None, memory: int = 0, idle: float = 0, **settings
    ) -> Iterator[Running]:
        chosen = ServerSettings(port=0, **settings)
        models = Models(paths or {"tiny": model_folder}, Engine.load, memory=memory, idle=idle)
        listening = listen(chosen)
        started = threading.Event()
        server = Server(create_app(chosen, models, keys), started=started.set)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        assert started.wait(60)
        try:
            yield Running(address(listening), server, models)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()

    return run


@pytest.fixture(scope="session")
def running(serve) -> Iterator[Running]:
    """One server for all tests that only ask it for answers."""
    with serve() as running:
        yield running
