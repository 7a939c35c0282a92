"""Writing a text together with a model, and models that were never trained on conversations."""

import re

import pytest
from playwright.sync_api import expect
from scripted_texts import ENDLESS


@pytest.fixture(scope="module")
def plain_url(serve, tiny):
    """A server with a model that was never trained on conversations."""
    engine = tiny()
    engine.conversations = False
    with serve({"plain": engine}) as url:
        yield url


@pytest.fixture
def writing(page):
    """The view, with the random model."""
    page.get_by_role("combobox", name="Model").select_option("tiny")
    page.get_by_role("tab", name="Write").click()
    page.get_by_role("combobox", name="Tokens").select_option("20")
    return page


def proceed(page) -> str:
    """Let the model continue the text; returns all of it."""
    box = page.get_by_label("Text that is continued")
    before = box.input_value()
    page.get_by_role("button", name="Continue").click()
    expect(box).not_to_have_value(before)
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    return box.input_value()


def coloured(page) -> list[str]:
    return page.locator("#ink [data-step]").all_text_contents()


def test_a_model_without_conversations_opens_write(visit, plain_url: str) -> None:
    page = visit(plain_url)
    expect(page.get_by_role("tab", name="Write")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#write-why")).to_have_text("plain was never trained on conversations: it continues texts.")
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#untrained")).to_be_visible()


def test_a_text_is_continued_in_place(writing) -> None:
    box = writing.get_by_label("Text that is continued")
    box.fill("def f(x):\n    if x:\n        ")
    text = proceed(writing)
    assert text.startswith("def f(x):\n    if x:\n        ")
    assert len(text) > 30
    assert writing.locator("#ink").text_content() == text + "\u200b"
    assert "".join(coloured(writing)) == text[28:]
    same = writing.evaluate(
        """() => {
          const [ink, text] = ["ink", "text"].map((id) => getComputedStyle(document.getElementById(id)));
          return ["fontSize", "lineHeight", "padding", "width", "height"].every((name) => ink[name] === text[name]);
        }"""
    )
    assert same  # the box lies exactly over what is drawn
    writing.get_by_role("button", name="Undo").click()
    expect(box).to_have_value("def f(x):\n    if x:\n        ")
    box.press("Control+z")
    expect(box).to_have_value("")
    expect(writing.get_by_role("button", name="Undo")).to_be_disabled()


def test_another_token_is_continued(writing) -> None:
    writing.get_by_label("Text that is continued").fill("to be")
    before = proceed(writing)
    place = next(at for at, text in enumerate(coloured(writing)) if at > 3 and text.isprintable() and text.strip())
    token = writing.locator("#ink [data-step]").nth(place)
    kept = "to be" + "".join(coloured(writing)[:place])
    box = token.bounding_box()
    writing.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    alternatives = writing.get_by_role("list", name="Continue with another token")
    expect(alternatives.get_by_role("listitem")).to_have_count(8)
    others = alternatives.get_by_role("button").all()
    named = {other.locator("code").inner_text(): other for other in others}
    # The random model may give only tokens whose names are written with escapes: then what was chosen is not compared.
    chosen = next((name for name in named if name.isascii() and "\\" not in name), "")
    (named[chosen] if chosen else others[0]).click()
    expect(writing.get_by_role("button", name="Continue")).to_be_visible()
    after = writing.get_by_label("Text that is continued").input_value()
    assert after.startswith(kept + chosen)
    assert len(after) > len(kept + chosen)
    writing.get_by_role("button", name="Undo").click()
    expect(writing.get_by_label("Text that is continued")).to_have_value(before)


def test_changes_keep_the_tokens_before_them(writing) -> None:
    box = writing.get_by_label("Text that is continued")
    box.fill("to be")
    text = proceed(writing)
    tokens = coloured(writing)
    assert len(tokens) > 5
    kept = "to be" + "".join(tokens[:4])
    box.fill(kept + "XYZ" + text[len(kept) :])
    assert coloured(writing) == tokens[:4]


def test_words_that_the_person_left_unfinished_are_completed(page, model) -> None:
    model.texts.extend([" upon", " a time"])
    page.get_by_role("tab", name="Write").click()
    page.get_by_label("Text that is continued").fill("Once")
    page.get_by_label("Temperature of the continuation").fill("0.3")
    assert proceed(page) == "Once upon"
    assert proceed(page) == "Once upon a time"
    assert [request.heal for request in model.requests] == [True, False]
    assert {request.settings.temperature for request in model.requests} == {0.3}
    assert model.requests[0].settings.max_tokens == 80


def test_a_continuation_is_stopped(page, model) -> None:
    model.texts.append(ENDLESS)
    page.get_by_role("tab", name="Write").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Text that is continued")).to_have_value(re.compile("word3"))
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    page.reload()  # the text is kept
    expect(page.get_by_label("Text that is continued")).to_have_value(re.compile("word3"))


def test_of_a_long_text_the_end_is_read(writing) -> None:
    writing.get_by_label("Text that is continued").fill("word " * 500)
    assert len(proceed(writing)) > 2500
    expect(writing.locator("#write-status")).to_have_text("")


def test_the_models_card(page) -> None:
    page.get_by_role("button", name="About").click()
    sheet = page.get_by_role("dialog", name="scripted")
    expect(sheet).to_contain_text("file")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
