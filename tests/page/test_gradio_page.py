"""The interface made with Gradio, in a real browser: it chats, writes, stops, and asks nobody else for anything."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from scripted_texts import ENDLESS, ScriptedEngine

from tinyslm.model.folder import save_model, write_card

pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings("ignore")  # Gradio's own, raised in its threads
WAIT = 60_000  # milliseconds: Gradio's page has 80 files


@pytest.fixture
def opened(browser: Browser) -> Callable:
    """Opens the interface of a server: `with opened(url) as page`. At the end: nobody else was asked for anything."""

    @contextmanager
    def visit(url: str) -> Iterator[Page]:
        asked: list[str] = []
        with browser.new_context() as context:
            context.set_default_timeout(WAIT)
            context.on("requestfinished", lambda request: asked.append(request.url))
            page = context.new_page()
            page.goto(f"{url}/gradio/")
            yield page
        hosts = {urlsplit(url).netloc for url in asked if url.startswith("http")}
        assert hosts == {urlsplit(url).netloc}

    return visit


def send(page: Page, text: str) -> None:
    field = page.get_by_role("textbox").first
    field.fill(text)
    field.press("Enter")


def test_a_conversation(opened, serve, model: ScriptedEngine) -> None:
    model.texts += ["Paris, ![not loaded](http://elsewhere.invalid/x.png) of course.", ENDLESS, "Yes."]
    with serve({"scripted": model}, gradio=True) as url, opened(url) as page:
        expect(page.get_by_role("tab", name="Continue")).to_have_count(0, timeout=WAIT)
        answers = page.get_by_test_id("bot")
        send(page, "The capital of France?")
        expect(answers.nth(0)).to_contain_text("of course.", timeout=WAIT)
        send(page, "Are you sure?")
        expect(answers.nth(1)).to_contain_text("word9", timeout=WAIT)
        page.locator("button.stop-button").click()
        expect(page.locator("button.submit-button")).to_be_visible(timeout=WAIT)
        send(page, "Really?")
        expect(answers.nth(2)).to_contain_text("Yes.", timeout=WAIT)
    assert model.cancelled == 1
    assert all(text in model.prompt() for text in ("The capital of France?", "of course.", "Are you sure?", "word9"))


def test_a_model_without_conversations_continues_a_text(
    opened, serve, model: ScriptedEngine, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tiny().model, tmp_path / "writer", model.tokenizer)
    write_card(tmp_path / "writer", {"bits_per_byte": 2.0})  # trained on text
    monkeypatch.setattr(model, "conversations", False)
    model.texts += [ENDLESS]
    with serve({"writer": model}, gradio=True) as url, opened(url) as page:
        text = page.get_by_label("Text, which the model continues")
        text.fill("Once ")
        page.get_by_role("button", name="Continue").click()
        expect(text).to_have_value(re.compile("Once word0 word1 .*word9 .*"), timeout=WAIT)
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Continue")).to_be_enabled(timeout=WAIT)
    assert (model.prompt(), model.cancelled) == ("Once ", 1)
