"""The page in a real browser with a real server, a tiny random model and a scripted one."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright
from scripted_texts import ScriptedEngine
from watched_page import Watched, watched

from tinyslm.inference.engine import Engine
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.serving.api_keys import ApiKeys
from tinyslm.serving.app import create_app
from tinyslm.serving.models import Models
from tinyslm.serving.page import Page as ServedPage
from tinyslm.serving.server import Server, address, listen
from tinyslm.serving.settings import ServerSettings
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    return train_tokenizer([], kind="byte")


@pytest.fixture(scope="session")
def tiny(byte_tokenizer: Tokenizer) -> Callable[[], Engine]:
    """Makes an engine with a small random model over bytes, which gives no special tokens: its texts do not end."""

    def make() -> Engine:
        torch.manual_seed(4)
        shape = {
            "dim": 32,
            "heads": 4,
            "kv_heads": 2,
            "depth": 2,
            "context": 1024,
            "vocab_size": byte_tokenizer.vocab_size,
        }
        model = Decoder(ModelConfig(family="phi", **shape))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.02, 0.3)
        torch.nn.init.constant_(model.lm_head.bias[256:], -100.0)
        return Engine(model.eval(), byte_tokenizer)

    return make


@pytest.fixture(scope="session")
def serve(tiny) -> Callable:
    """Runs a server with the given engines: `with serve({"name": engine}) as url`."""

    @contextmanager
    def run(
        engines: dict[str, Engine], keys: ApiKeys | None = None, pages: Sequence[ServedPage] = (), **given
    ) -> Iterator[str]:
        settings = ServerSettings(port=0, **given)
        models = Models({name: Path(name) for name in engines}, lambda path: engines[path.name])
        listening = listen(settings)
        started = threading.Event()
        server = Server(create_app(settings, models, keys, pages), started=started.set)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        assert started.wait(60)
        try:
            yield address(listening)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()

    return run


@pytest.fixture(scope="session")
def _scripted(byte_tokenizer: Tokenizer) -> ScriptedEngine:
    return ScriptedEngine(byte_tokenizer)


@pytest.fixture
def model(_scripted: ScriptedEngine) -> ScriptedEngine:
    """The model that says what a test tells it to."""
    _scripted.forget()
    return _scripted


@pytest.fixture(scope="session")
def url(serve, _scripted: ScriptedEngine, tiny) -> Iterator[str]:
    """A server with two models: "scripted", and "tiny", which can be looked into."""
    with serve({"scripted": _scripted, "tiny": tiny()}) as url:
        yield url


# Not for the whole session: as long as it is there, Playwright's event loop runs in this thread, where other tests
# start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail(f"The page's tests need a browser: install Chromium (looked for {', '.join(BROWSERS)}).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Callable[..., Watched]]:
    """Opens the page: `page = visit()`. At the end: no error was logged, and nobody else was asked for anything."""
    opened: list[Watched] = []

    def open_page(at: str = url, *, waits: bool = True, **options: object) -> Watched:
        page = watched(browser.new_context(**options), at, waits=waits)
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.context.close()
        page.check()


@pytest.fixture(scope="module")
def _tab(browser: Browser) -> Iterator[Page]:
    """A tab for one test after another: opening one takes longer than most tests."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def page(_tab: Page, url: str) -> Iterator[Watched]:
    """The page on a desktop, with the scripted model. At the end, the same is checked as by `visit`."""
    page = Watched(_tab, url)
    yield page
    page.check()
    page.leave()


@pytest.fixture
def phone(visit) -> Page:
    """The page on a phone that is 360 pixels wide."""
    return visit(**PHONE)
