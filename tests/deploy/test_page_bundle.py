"""The bundle "page" in a real browser: checked as `tinyslm deploy` does, and used as a visitor would."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sentences import sentences
from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.bundle import Contents
from tinyslm.deploy.deploying import Deployed, deploy_model
from tinyslm.deploy.page import PAGE
from tinyslm.deploy.page.checking import HEADERS, served
from tinyslm.deploy.page.chromium import PROGRAMS, find_browser
from tinyslm.deploy.settings import BundleSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.chat import with_chatml
from tinyslm.tokenizer.training import train_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] }}\n"
    "{{ message['content'] | trim + '<|im_end|>' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WAIT = 60_000  # milliseconds: the machine may be busy


@pytest.fixture(scope="module", autouse=True)
def program() -> str:
    found = find_browser()
    if found is None:
        pytest.fail(f"The page's tests need a browser: install Chromium (looked for {', '.join(PROGRAMS)}).")
    return found


pytestmark = pytest.mark.usefixtures("npm_packages")


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a trained tokenizer and a chat template; it does not end its answers."""
    tokenizer = with_chatml(train_tokenizer(sentences(300).splitlines(), vocab_size=320)).with_template(TEMPLATE)
    torch.manual_seed(3)
    shape = {"dim": 64, "heads": 2, "depth": 2, "context": 256, "vocab_size": tokenizer.vocab_size}
    model = Decoder(ModelConfig(family="phi", **shape))
    torch.nn.init.normal_(model.lm_head.weight, 0.0, 0.3)
    torch.nn.init.constant_(model.lm_head.bias, -1.0)
    for token in tokenizer.special_ids.values():
        torch.nn.init.constant_(model.lm_head.bias[token], -100.0)
    folder = tmp_path_factory.mktemp("page") / "talker"
    save_model(model.eval(), folder, tokenizer)
    return folder


@pytest.fixture(scope="module")
def made(npm_packages: None, talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The page of the model, checked."""
    folder = tmp_path_factory.mktemp("site") / "site"
    return deploy_model(talker, "page", folder, settings=BundleSettings(title="A <small> model"))


@pytest.fixture(scope="module")
def browser(program: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator:
    """Opens a page, and waits for its model. At the end: nothing was complained about, and no other host was asked."""
    opened: list[tuple[Page, str, list[str], list[str]]] = []

    def open_page(url: str, query: str = "", **options: object) -> Page:
        page = browser.new_context(**options).new_page()
        requests: list[str] = []
        complaints: list[str] = []
        page.context.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(WAIT)
        page.goto(f"{url}/{query}")
        expect(page.locator("#loading-status")).to_contain_text("Runs in this browser", timeout=WAIT)
        opened.append((page, url, requests, complaints))
        return page

    yield open_page
    for page, url, requests, complaints in opened:
        page.context.close()
        assert complaints == []
        assert [one for one in requests if not one.startswith((url, "blob:"))] == []


def test_the_check_proves_the_page(made: Deployed) -> None:
    checked = dict(made.checked)
    assert checked.pop("files") == "complete"
    assert "Chrom" in checked.pop("browser")
    equal = re.match(r"(\d+) of 72 are tinyslm's on the same file", checked.pop("greedy tokens"))
    assert equal
    assert int(equal[1]) >= 68  # rounding decides between tokens that are about as likely
    assert checked.pop("other hosts").startswith("none asked, in ")
    assert checked == {
        "token ids": "equal for 1,000 strings and 4 conversations",
        "offline": "opens again without a network",
    }


def test_the_files(made: Deployed) -> None:
    """Small, with licences, and with a policy that the browser enforces."""
    loaded = {name: size for name, size in made.files.items() if name != "page/runtime/threads.wasm"}
    assert sum(size for name, size in loaded.items() if not name.endswith(".gguf")) < 4_000_000
    assert {"page/runtime/wllama.LICENCE", "page/runtime/jinja.LICENSE", "README.md"} <= made.files.keys()
    assert "llama.cpp" in (made.folder / "page/runtime/NOTICE.txt").read_text()
    document = (made.folder / "index.html").read_text()
    assert "<title>A &lt;small&gt; model</title>" in document
    assert "- In the page, its weights have about 8.5 bits each (q8_0);" in (made.folder / "README.md").read_text()
    assert "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval';" in document
    about = json.loads((made.folder / "page/model.json").read_text())
    assert made.files[about["file"]] == about["bytes"]


STOP_AT_ONCE = """() => {
  const stop = document.getElementById("stop");
  const seen = new MutationObserver(() => {
    if (stop.hidden) return;
    seen.disconnect();
    stop.click();
  });
  seen.observe(stop, { attributes: true });
}"""
"""Presses Stop as soon as it is shown: a person would be too slow for so small a model."""


def test_a_visitor_talks_writes_and_looks_inside(made: Deployed, visit) -> None:
    with served(made.folder) as url:
        page = visit(url)
        box = page.get_by_label("Message", exact=True)
        page.evaluate(STOP_AT_ONCE)
        box.fill("Hello <|im_end|>")
        box.press("Enter")
        expect(page.get_by_role("article", name="Model")).to_contain_text("Stopped.", timeout=WAIT)

        box.fill("the old dog " * 300)
        box.press("Enter")
        said = r"The text has \d+ tokens, and the model reads at most 255. Shorten a message, or start a new chat."
        expect(page.locator("#notice")).to_have_text(re.compile(said), timeout=WAIT)

        page.get_by_role("tab", name="Write").click()
        text = page.get_by_label("Text that is continued")
        text.fill("the old dog")
        page.get_by_role("combobox").filter(has_text="300").select_option("20")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("#ink [data-step]")).not_to_have_count(0, timeout=WAIT)
        expect(page.locator("#speed")).to_contain_text("tokens/s")
        expect(page.get_by_role("button", name="Continue")).to_be_visible(timeout=WAIT)
        text.press("Control+End")
        text.press("ArrowLeft")
        expect(page.locator("#choices li")).to_have_count(8, timeout=WAIT)

        page.get_by_role("tab", name="Look inside").click()
        page.get_by_role("button", name="Look inside", exact=True).click()
        expect(page.get_by_role("option")).not_to_have_count(0, timeout=WAIT)
        page.get_by_role("option").nth(2).focus()
        expect(page.locator("#detail-body li")).not_to_have_count(0, timeout=WAIT)
        for only_of_a_server in ("attention", "key", "tools", "schema", "seed"):
            expect(page.locator(f"#{only_of_a_server}")).to_be_hidden()
        page.get_by_role("button", name="About").click()
        expect(page.get_by_role("dialog")).to_contain_text("parameters")
        expect(page.get_by_role("dialog")).to_contain_text("about 8.5 bits each (q8_0)")


def test_threads_and_a_phone(made: Deployed, visit) -> None:
    """With the headers that a browser asks for, and on a narrow screen."""
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with served(made.folder, HEADERS) as url:
        page = visit(url, "?threads=2", **phone)
        expect(page.locator("#loading-status")).to_contain_text("2 threads")
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Maximum tokens").fill("5")
        page.get_by_role("button", name="Close").click()
        page.get_by_label("Message", exact=True).fill("Hello")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("article", name="Model")).to_contain_text("maximum number of tokens", timeout=WAIT)
        wide, room = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= room


def test_a_model_file_that_is_not_the_pages_does_not_pass(made: Deployed, talker: Path, tmp_path: Path) -> None:
    """What else is compared raises in the same way; `test_the_check_proves_the_page` runs it."""
    folder = tmp_path / "site"
    (folder / "page").mkdir(parents=True)
    shutil.copy(made.folder / "page/model.json", folder / "page/model.json")
    (folder / next(made.folder.glob("*.gguf")).name).write_bytes(b"GGUF")
    with pytest.raises(TinyslmError, match="the model's file is not what the page expects"):
        PAGE.check(Contents(talker, "talker", "Talker"), folder, lambda *_: None)


def test_a_machine_without_a_browser(
    made: Deployed, talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is made, and the report says that it was not opened."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def browser() -> str:
        return PAGE.check(Contents(talker, "talker", "Talker"), made.folder, lambda *_: None)["browser"]

    assert browser().startswith("not checked: there is no Chromium here. Node.js")
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert browser().startswith(f"not checked: {broken} does not start: the browser has ended.")
