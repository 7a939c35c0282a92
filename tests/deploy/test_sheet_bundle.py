"""The bundle "page" of the pack excel in a real browser: checked, used as a visitor would, and its grammar compared."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect, sync_playwright

from tinyslm.deploy.deploying import Deployed, deploy_model
from tinyslm.deploy.page.checking import served
from tinyslm.deploy.page.chromium import PROGRAMS, find_browser
from tinyslm.deploy.settings import BundleSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.packs import EXCEL
from tinyslm.packs.excel.grammar import formula_grammar
from tinyslm.packs.pack import unique_rows
from tinyslm.tokenizer.chat import CHATML, with_chatml
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

WAIT = 60_000  # milliseconds: the machine may be busy
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

pytestmark = pytest.mark.usefixtures("npm_packages")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return with_chatml(train_tokenizer([], kind="byte")).with_template(CHATML)


@pytest.fixture(scope="module")
def answerer(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that prefers the same tokens everywhere: the end, then "D", then "2". The grammar makes it "=D2"."""
    model = Decoder(ModelConfig(family="phi", vocab_size=tokenizer.vocab_size, dim=32, heads=2, depth=1, context=1024))
    torch.nn.init.zeros_(model.lm_head.weight)
    torch.nn.init.zeros_(model.lm_head.bias)
    preferred = [*tokenizer.encode("2D"), *tokenizer.stop_ids]
    for place, token in enumerate(preferred, 1):
        torch.nn.init.constant_(model.lm_head.bias[token], 2.0 * place)
    folder = tmp_path_factory.mktemp("sheet") / "answerer"
    save_model(model.eval(), folder, tokenizer)
    return folder


@pytest.fixture(scope="module")
def made(npm_packages: None, answerer: Path, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    if find_browser() is None:
        pytest.fail(f"The page's tests need a browser: install Chromium (looked for {', '.join(PROGRAMS)}).")
    folder = tmp_path_factory.mktemp("site") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyslm.deploy.page.checking.STRINGS", 20)  # test_page_bundle.py compares more
        return deploy_model(answerer, "page", folder, settings=BundleSettings(pack="excel", title="My <formulas>"))


@pytest.fixture(scope="module")
def page(made: Deployed) -> Iterator[Page]:
    """The page on a phone. At the end: nothing was complained about, and no other host was asked."""
    requests: list[str] = []
    complaints: list[str] = []
    with served(made.folder) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_context(**PHONE).new_page()
        page.context.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(WAIT)
        expect.set_options(timeout=WAIT)
        page.goto(url)
        expect(page.locator("#loading-status")).to_contain_text("Runs in this browser")
        yield page
        browser.close()
        expect.set_options(timeout=5_000)
        assert complaints == []
        assert [one for one in requests if not one.startswith((url, "blob:"))] == []


def test_the_check_compares_prompts_and_values_and_asks(made: Deployed) -> None:
    assert made.checked["prompts"] == "equal for 56 requests about 56 sheets"
    assert made.checked["values"] == "12 formulas as tinyslm computes them"
    assert made.checked["request"] == '"total units": =D2, 12'
    assert made.checked["offline"] == "opens again without a network"
    assert {"index.html", "chat.html", "README.md", "page/runtime/ironcalc/LICENSE-MIT.md"} <= made.files.keys()
    assert "@ironcalc/wasm 0.8.4: MIT" in (made.folder / "page/runtime/NOTICE.txt").read_text()
    assert "<title>Spreadsheet formulas · My &lt;formulas&gt;</title>" in (made.folder / "index.html").read_text()


def test_a_visitor_asks_and_changes_the_sheet_without_a_mouse(page: Page) -> None:
    page.get_by_label("What do you want to know?").focus()
    page.keyboard.type("units")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Formula")).to_have_value("=D2")
    expect(page.locator("#value")).to_have_text("12")
    expect(page.locator("td.result")).to_have_text(["", "12", "7", "40", "5", "9", "3"])
    page.get_by_label("D3", exact=True).focus()
    page.keyboard.type("1")
    expect(page.locator("td.result").nth(2)).to_have_text("71")
    page.get_by_label("Formula").fill("=AGGREGATE(9,6,D2:D7)")
    expect(page.locator("#value")).to_have_text("not computed: IronCalc has no AGGREGATE")
    page.get_by_label("Formula").fill('=FILTER(C2:D7,B2:B7="South")')
    expect(page.locator("#value")).to_have_text("Webcam")
    expect(page.locator("tr:nth-child(3) td.result")).to_have_text(["Desk lamp", "9"])
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_a_file_of_the_visitors_is_opened_and_saved_with_the_result(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "hours.csv"
    file.write_text('Name;Hours;Rate;"Total; net"\nAda;3;"20,5";\n"Bob ""B""";4.5;18;\n' + "x;1;1;1\n" * 300)
    page.locator("#file").set_input_files(file)
    expect(page.locator("#notice")).to_have_text("Only the first 200 of 302 rows are here: formulas are about these.")
    page.get_by_label("Formula").fill("=B2*2")
    expect(page.locator("td.result").nth(2)).to_have_text("9")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    lines = Path(saved.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines[:3] == ['Name,Hours,Rate,"Total; net",Result', 'Ada,3,"20,5",,6', '"Bob ""B""",4.5,18,,9']
    assert len(lines) == 201
    page.locator("#file").set_input_files({"name": "empty.csv", "mimeType": "text/csv", "buffer": b"\n,\n"})
    expect(page.locator("#notice")).to_have_text("This file has no cells.")


def test_the_pages_grammar_is_tinyslms(page: Page, tokenizer: Tokenizer) -> None:
    """The same texts are whole formulas, and the same are beginnings of some."""
    rows = list(islice(unique_rows(EXCEL.skill("formula"), "test", 5), 12))
    written = [row for _, row in EXCEL.written_requests() if row["skill"] == "formula" and not row.get("mode")]
    asked: list[tuple[int, int, list[list[int]]]] = []
    wanted: list[list[tuple[bool, bool]]] = []
    for row in [one for one in rows if not one.get("mode")] + written[::12]:
        answer = row["answer"]
        texts = [answer, answer[:-1], answer + ")", answer.replace("(", "(ß,", 1), answer.replace("A", "É"),
                 re.sub(r"\d+", lambda found: str(int(found[0]) + 1), answer), answer.swapcase()]  # fmt: skip
        grammar = formula_grammar(row).compile(tokenizer)
        wanted.append([])
        for text in texts:
            matcher, ids = grammar.matcher(), tokenizer.encode(text)
            begins = matcher.take(ids) == len(ids)
            wanted[-1].append((begins, begins and bool(matcher.accepts)))
        asked.append((len(row["sheet"]["headers"]), len(row["sheet"]["rows"]), [list(one.encode()) for one in texts]))
    found = page.evaluate(
        """async (asked) => {
          const { matcher } = await import(new URL("page/excel/backend.js", document.baseURI).href);
          return Promise.all(asked.map(async ([width, height, texts]) => {
            const sheet = { headers: Array(width).fill(""), rows: Array(height).fill([]) };
            const follow = async (bytes) => {
              const one = await matcher(sheet);
              for (const byte of bytes) {
                if (!one.allows([byte])) return [false, false];
                one.take([byte]);
              }
              return [true, one.accepts];
            };
            return Promise.all(texts.map(follow));
          }));
        }""",
        asked,
    )
    assert [[tuple(one) for one in some] for some in found] == wanted
    assert sum(whole for some in wanted for _, whole in some) > len(wanted)
