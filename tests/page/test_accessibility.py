"""Accessibility: phones, keyboards, screen readers, light and dark."""

import json
import re

import pytest
from playwright.sync_api import expect
from test_chat_page import WEATHER
from test_looking_inside import look

LONG = (
    "A line without a space: " + "x" * 400 + "\n\n```\n" + "code " * 60 + "\n```\n\n[" + "y" * 90 + "](https://example.com/"
    + "z" * 200 + ")\n\n- " + "w" * 300
)  # fmt: skip


def fits(page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    wide, room = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
    return wide <= room


def test_it_fits_a_phone(phone, model) -> None:
    model.texts.append(LONG)
    assert fits(phone)
    phone.ask("y" * 300)
    assert fits(phone)
    box = phone.get_by_label("Message", exact=True).bounding_box()
    assert box["width"] > 200
    assert box["y"] + box["height"] <= 740
    log = phone.get_by_role("log")
    assert log.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    phone.get_by_role("button", name="Settings").click()
    assert fits(phone)
    dialog = phone.get_by_role("dialog")
    assert dialog.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    assert dialog.bounding_box()["width"] == 360


def test_a_phone_shows_the_whole_name_of_a_model(phone) -> None:
    room = """(chosen, name) => {
        chosen.options[0].text = name;
        const style = getComputedStyle(chosen), pen = document.createElement("canvas").getContext("2d");
        pen.font = style.font;
        return chosen.clientWidth - parseFloat(style.paddingLeft) - pen.measureText(name).width;
    }"""
    for name in ("tiny", "support-answers-en-30m"):
        assert phone.locator("#model").evaluate(room, name) > 10  # room for the arrow
        assert fits(phone)


def test_the_inspection_fits_a_phone(phone) -> None:
    look(phone, "A text of some length, that does not fit one line of a phone: " + "b" * 50)
    assert fits(phone)
    assert phone.locator("#look").evaluate("(node) => node.scrollWidth <= node.clientWidth")
    phone.locator("#tokens .token").nth(3).tap()
    expect(phone.locator("#tokens .token").nth(3)).to_have_attribute("aria-selected", "true")


def test_writing_fits_a_phone(phone) -> None:
    phone.get_by_role("combobox", name="Model").select_option("tiny")
    phone.get_by_role("tab", name="Write").click()
    phone.get_by_label("Text that is continued").fill("b" * 100)
    phone.get_by_role("button", name="Continue").click()
    expect(phone.locator("#ink [data-step]")).not_to_have_count(0)
    expect(phone.get_by_role("button", name="Continue")).to_be_visible()
    assert fits(phone)
    assert phone.locator("#write").evaluate("(node) => node.scrollWidth <= node.clientWidth")


def test_touch_targets_are_large_enough(phone, model) -> None:
    phone.ask("Hello")
    for button in phone.get_by_role("button").all() + phone.get_by_role("tab").all():
        assert button.bounding_box()["height"] >= 28, button
    phone.get_by_role("button", name="Chats").click()
    assert fits(phone)
    for button in phone.get_by_role("dialog").get_by_role("button").all():
        assert button.bounding_box()["height"] >= 28, button


def test_everything_works_with_the_keyboard(page, model) -> None:
    model.texts.extend(["One.", "Two."])
    order = []
    for _ in range(10):
        page.keyboard.press("Tab")
        order.append(page.evaluate("() => document.activeElement.id || document.activeElement.textContent"))
    assert order == [
        "Skip to the message box", "model", "chat-tab", "new", "open-chats", "open-card", "open-settings", "log",
        "message", "send",
    ]  # fmt: skip
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("Line one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line two")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Model")).to_contain_text("One.")
    assert "Line one\nline two" in model.prompt()
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.get_by_role("tab", name="Chat").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Write")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Look inside")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Look inside")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Chat")).to_be_focused()
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Settings")).to_be_focused()


def test_focus_is_visible(page) -> None:
    for name in ("New chat", "Settings"):
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert button.evaluate("(node) => getComputedStyle(node).outlineStyle") == "solid"


def test_the_accessibility_tree(page, model) -> None:
    model.texts.append("Good **day**.")
    page.ask("Hello")
    seen = re.sub(r"\d+ tokens, [\d.]+ per second", "TIMING", page.locator("body").aria_snapshot())
    assert seen == SNAPSHOT
    log = page.get_by_role("log", name="Conversation")
    expect(log).to_have_attribute("aria-live", "polite")


SNAPSHOT = """\
- link "Skip to the message box":
  - /url: "#message"
- banner:
  - heading "tinyslm" [level=1]
  - text: Model
  - combobox "Model":
    - option "scripted" [selected]
    - option "tiny"
  - tablist "Views":
    - tab "Chat" [selected]
    - tab "Write"
    - tab "Look inside"
  - button "New chat"
  - button "Chats"
  - button "About"
  - button "Settings"
- main:
  - tabpanel "Chat":
    - log "Conversation":
      - article "You":
        - heading "You" [level=3]
        - paragraph: Hello
        - button "Edit"
      - article "Model":
        - heading "Model" [level=3]
        - paragraph:
          - text: Good
          - strong: day
          - text: .
        - button "Edit"
        - button "Copy"
        - button "Look inside"
        - button "Try again"
        - text: TIMING
    - text: Message
    - textbox "Message":
      - /placeholder: Write a message
    - button "Send"
    - paragraph: Enter sends, Shift+Enter starts a new line, Esc stops the answer"""


def unnamed(page) -> list[str]:
    """What can be used but has no name that a screen reader could say."""
    return page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, textarea, a, canvas[role], [role]")]
          .filter((node) => node.checkVisibility())
          .filter((node) => node.role !== "status" && node.role !== "alert")
          .filter((node) => !(node.ariaLabel || node.ariaLabelledByElements?.length || node.labels?.length))
          .filter((node) => !node.textContent.trim())
          .map((node) => node.outerHTML.slice(0, 120))"""
    )


def test_everything_has_a_name(page, model) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Tools that the model may call").fill(json.dumps([WEATHER]))
    assert unnamed(page) == []
    page.get_by_role("button", name="Close").click()
    model.texts.append('<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>')
    page.send("Weather?")
    expect(page.get_by_role("region", name="Call of weather")).to_be_visible()
    assert unnamed(page) == []
    look(page)
    assert unnamed(page) == []
    page.get_by_role("tab", name="Write").click()
    assert unnamed(page) == []


def luminance(colour: str) -> float:
    """Of a CSS colour (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit, model, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    page.ask("Hello")
    look(page, "to be or not to be, that is the question")
    pairs = page.evaluate(
        """() => {
          const ground = (node) => {
            for (; node; node = node.parentElement) {
              const colour = getComputedStyle(node).backgroundColor;
              if (!colour.endsWith(", 0)") && colour !== "transparent") return colour;
            }
            return "rgb(255, 255, 255)";
          };
          const shown = [...document.querySelectorAll("body *")].filter((node) =>
            node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
          return shown.map((node) => [getComputedStyle(node).color, ground(node), node.outerHTML.slice(0, 100)]);
        }"""
    )
    assert len(pairs) > 50
    faint = {(text, contrast(ink, paper)) for ink, paper, text in pairs if contrast(ink, paper) < 4.5}
    assert not faint
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) > 0.5) == (scheme == "light")


def test_reduced_motion_is_respected(visit, model) -> None:
    page = visit(reduced_motion="reduce")
    model.texts.append("Hello, hello, hello.")
    model.gate.clear()
    page.send("Hi")
    body = page.get_by_role("article", name="Model").locator(".body")
    expect(body).to_contain_text("Hello")
    assert body.evaluate("(node) => getComputedStyle(node, '::after').animationName") == "none"
    model.gate.set()
