"""The view that looks inside a model: tokens, probabilities, alternatives, attention."""

import math
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tinyslm.inspection.inspecting import inspect
from tinyslm.inspection.token_kinds import loss_by_kind, token_kind

TEXT = "to be or\nnot é"


@pytest.fixture
def found(tiny):
    """What the model thinks of the text."""
    engine = tiny()
    return inspect(engine.model, engine.tokenizer, engine.prompt_ids(TEXT))


@pytest.fixture
def looking(page):
    """The page, looking at the text."""
    return look(page)


def look(page, text: str = TEXT):
    page.get_by_role("combobox", name="Model").select_option("tiny")
    page.get_by_role("tab", name="Look inside").click()
    page.get_by_label("Text to inspect").fill(text)
    page.get_by_role("button", name="Look inside").click()
    expect(page.locator("#map-text tbody tr")).not_to_have_count(0)
    return page


def percent(logprob: float) -> str:
    share = 100 * math.exp(logprob)
    return f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def test_tokens_are_pieces_with_their_probability(looking, found) -> None:
    tokens = looking.locator("#tokens").get_by_role("option")
    expect(tokens).to_have_count(len(found.tokens))
    assert tokens.all_inner_texts() == [*"to·be·or↵not·", "⟨C3⟩", "⟨A9⟩"]
    expect(tokens.nth(0)).to_have_attribute("aria-label", 'Token 1: "t"')
    second = found.tokens[1]
    expect(tokens.nth(1)).to_have_attribute(
        "aria-label", f'Token 2: "o", probability {percent(second.logprob)}, rank {second.rank}'
    )
    colours = {token.evaluate("(node) => getComputedStyle(node).backgroundColor") for token in tokens.all()[1:]}
    assert len(colours) > 1


def test_alternatives_appear_on_hover(looking, found) -> None:
    looking.locator("#tokens .token").nth(4).hover()
    detail = looking.get_by_role("region", name="Alternatives")
    one = found.tokens[4]
    expect(detail).to_contain_text(f"token {one.token.id} · {percent(one.logprob)} · rank {one.rank}")
    rows = detail.get_by_role("list").get_by_role("listitem")
    expect(rows).to_have_count(8)
    for row, (_, logprob) in zip(rows.all(), one.top, strict=True):
        expect(row).to_contain_text(percent(logprob))


def test_alternatives_appear_with_the_keyboard(looking, found) -> None:
    tokens = looking.locator("#tokens .token")
    expect(looking.locator("#tokens .token[tabindex='0']")).to_have_count(1)  # one stop for the tab key
    looking.locator("#tokens .token[tabindex='0']").focus()
    looking.keyboard.press("Home")
    expect(tokens.nth(0)).to_be_focused()
    expect(looking.locator("#detail")).to_contain_text("The first token has no context")
    looking.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(tokens.nth(1)).to_have_attribute("aria-selected", "true")
    expect(looking.locator("#detail")).to_contain_text(f"rank {found.tokens[1].rank}")
    looking.keyboard.press("ArrowDown")
    expect(tokens.nth(10)).to_be_focused()  # below it, in the next line
    looking.keyboard.press("End")
    expect(looking.locator("#detail")).to_contain_text("Next token")
    expect(looking.get_by_role("list", name="Likeliest tokens after the text")).to_contain_text(
        percent(found.following[0][1])
    )


def test_attention_is_a_heat_map_with_values(looking, found) -> None:
    looking.get_by_label("Layer", exact=True).select_option("1")
    looking.get_by_label("Head", exact=True).select_option("2")
    cells = looking.get_by_role("img", name=re.compile("Heat map of attention in layer 1, head 2: 15 by 15 tokens"))
    expect(cells).to_be_visible()
    weights = found.attention(1, 2)
    size = cells.bounding_box()["width"] / 15
    cells.hover(position={"x": 3.5 * size, "y": 7.5 * size})
    expect(looking.locator("#map-value")).to_have_text(
        f"Token 8, r, attends {percent(math.log(weights[7, 3]))} to token 4, b."
    )
    cells.hover(position={"x": 9.5 * size, "y": 7.5 * size})
    expect(looking.locator("#map-value")).to_contain_text("cannot attend to")
    brightness = cells.evaluate(
        """(canvas) => {
          const context = canvas.getContext("2d");
          const size = canvas.width / 15;
          const value = (row, column) =>
            context.getImageData((column + 0.5) * size, (row + 0.5) * size, 1, 1).data.slice(0, 3).join();
          return Array.from({length: 15}, (_, row) => Array.from({length: 15}, (_, column) => value(row, column)));
        }"""
    )
    drawn = np.array([[sum(map(int, cell.split(","))) for cell in row] for row in brightness])
    below = np.tril_indices(15, -1)
    order = np.corrcoef(np.argsort(np.argsort(drawn[below])), np.argsort(np.argsort(weights[below])))[0, 1]
    assert order < -0.98  # darker is more, on a light page


def test_the_heat_map_works_with_the_keyboard(looking, found) -> None:
    weights = found.attention(1)
    looking.locator("canvas.cells").focus()
    value = looking.locator("#map-value")
    expect(value).to_have_text(f"Token 15, ⟨A9⟩, attends {percent(math.log(weights[14, 0]))} to token 1, t.")
    looking.keyboard.press("ArrowUp")
    looking.keyboard.press("ArrowRight")
    expect(value).to_have_text(f"Token 14, ⟨C3⟩, attends {percent(math.log(weights[13, 1]))} to token 2, o.")
    looking.keyboard.press("Enter")
    expect(looking.locator("#tokens .token").nth(13)).to_have_attribute("aria-selected", "true")


def test_the_heat_map_has_a_text_alternative(looking, found) -> None:
    looking.get_by_text("The same as text").click()
    row = looking.get_by_role("row").filter(has=looking.get_by_role("rowheader", name="8 r", exact=True))
    best = int(found.attention(1)[7].argmax())
    expect(row).to_contain_text(f"({best + 1}) {percent(math.log(found.attention(1)[7, best]))}")


def test_tokens_can_be_coloured_by_attention(looking, found) -> None:
    looking.get_by_label("attention of the chosen token").check()
    looking.locator("#tokens .token").nth(6).hover()
    shares = looking.locator("#tokens .token").evaluate_all(
        "(nodes) => nodes.map((node) => Number(node.style.getPropertyValue('--share')))"
    )
    np.testing.assert_allclose(shares[:7], found.attention(1)[6, :7], atol=1e-4)
    assert set(shares[7:]) == {0}


def test_tokens_can_be_coloured_by_kind_and_the_loss_is_divided(looking, found) -> None:
    looking.get_by_label("kind of token").check()
    kinds = looking.locator("#tokens .token").evaluate_all("(nodes) => nodes.map((node) => node.dataset.kind)")
    assert kinds == [token_kind(one.token) for one in found.tokens]
    expect(looking.locator("#legend")).to_have_text("wordsspacesbytes")
    rows = looking.locator("#loss tbody tr")
    losses = loss_by_kind(found.tokens)
    expect(rows).to_have_count(len(losses))
    for row, one in zip(rows.all(), losses, strict=True):
        expect(row).to_have_text(f"{one.kind}{one.tokens}{one.bits_per_token:.2f}{100 * one.share:.1f} %")


def test_a_conversation_can_be_inspected(page) -> None:
    page.get_by_role("combobox", name="Model").select_option("tiny")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Maximum tokens").fill("4")
    page.get_by_role("button", name="Close").click()
    page.ask("Hi").get_by_role("button", name="Look inside").click()
    expect(page.get_by_role("tab", name="Look inside")).to_have_attribute("aria-selected", "true")
    tokens = page.locator("#tokens .token")
    expect(tokens.first).to_have_text("<|im_start|>")
    expect(tokens.first).to_have_attribute("aria-label", re.compile("special"))
    assert "".join(tokens.all_inner_texts()).startswith("<|im_start|>user↵Hi<|im_end|>↵<|im_start|>assistant↵")


def test_long_texts_are_cut_at_the_beginning(page) -> None:
    look(page, "word " * 120)
    expect(page.locator("#look-status")).to_have_text("The last 512 tokens; 88 earlier tokens are omitted.")
    expect(page.locator("#tokens .token")).to_have_count(512)
    assert page.locator("canvas.cells").bounding_box()["width"] == 2048


def test_there_may_be_no_conversation_to_inspect(page) -> None:
    page.get_by_role("tab", name="Look inside").click()
    page.get_by_role("button", name="Inspect the conversation").click()
    expect(page.locator("#look-status")).to_have_text("There is no conversation yet.")


def corners(page, name: str) -> dict:
    return page.locator(name).bounding_box()


def test_the_card_never_covers_tokens_on_a_phone(visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    look(page, "a text of many tokens, " * 12)
    expect(page.locator("#tokens-help")).to_have_text(re.compile("Tap a token"))
    expect(page.get_by_text("Point at a token")).to_be_hidden()
    for place in (3, 90, 200):
        page.locator("#tokens .token").nth(place).tap()
        expect(page.locator("#detail")).to_contain_text("rank")
        tokens, card = corners(page, "#tokens"), corners(page, "#detail")
        assert tokens["y"] + tokens["height"] <= card["y"]
        assert card["y"] < 844  # the card is in view


def test_everything_is_side_by_side_on_a_desktop(page) -> None:
    look(page)
    tokens, card, attention = (corners(page, name) for name in ("#tokens", "#detail", "#attention"))
    assert tokens["x"] + tokens["width"] <= card["x"]
    assert card["x"] + card["width"] <= attention["x"]
    assert attention["x"] + attention["width"] <= 1280
    assert max(box["y"] for box in (tokens, card, attention)) < 500
    expect(page.locator("#attention")).to_contain_text("the first token attracts")
