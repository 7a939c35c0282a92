"""Chatting: streaming, stopping, settings, tools, schemas, files, keys."""

import json
import re

import pytest
from playwright.sync_api import expect
from scripted_texts import ENDLESS

from tinyslm.serving.api_keys import make_key, read_keys


def settings(page, **values: object) -> None:
    """Fill in the settings by their labels."""
    page.get_by_role("button", name="Settings").click()
    for label, value in values.items():
        words = label.replace("_", " ")
        page.get_by_label(words, exact=not words.startswith("Tools")).fill(str(value))
    page.get_by_role("button", name="Close").click()


def test_an_answer_appears_as_it_is_written(page, model) -> None:
    model.texts.append("Good morning to you, and to all.")
    model.gate.clear()
    page.send("Hello")
    answer = page.get_by_role("article", name="Model")
    expect(answer).to_contain_text("Good mo")
    expect(answer).not_to_contain_text("to all")
    expect(answer).to_have_attribute("aria-busy", "true")
    model.gate.set()
    expect(answer).to_contain_text("Good morning to you, and to all.")
    expect(answer).not_to_have_attribute("aria-busy", "true")
    expect(answer).to_contain_text(re.compile(r"5 tokens, [\d.]+ per second"))
    expect(page.get_by_role("article", name="You")).to_contain_text("Hello")
    expect(page.get_by_label("Message", exact=True)).to_have_value("")


def test_the_whole_conversation_is_sent(page, model) -> None:
    model.texts.extend(["One.", "Two.", "Three."])
    page.ask("First")
    page.ask("Second")
    assert re.search(r"user\nFirst.*assistant\nOne\..*user\nSecond", model.prompt(), re.DOTALL)
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("article")).to_have_count(0)
    page.ask("Third")
    assert "First" not in model.prompt()


@pytest.mark.parametrize("how", ["button", "key"])
def test_stopping_ends_the_request(page, model, how: str) -> None:
    model.texts.extend([ENDLESS, "Well."])
    page.send("Go on forever")
    answer = page.get_by_role("article", name="Model")
    expect(answer).to_contain_text("word3")
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    expect(answer).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    assert "word3" in answer.inner_text()
    page.ask("And now?")  # the half answer is part of the conversation
    assert "word3" in model.prompt()
    assert model.cancelled == 1


def test_a_new_chat_ends_the_answer_under_way(page, model) -> None:
    model.texts.append(ENDLESS)
    page.send("Go on forever")
    expect(page.get_by_role("article", name="Model")).to_contain_text("word3")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("article")).to_have_count(0)
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    assert page.ask("Hello").inner_text().count("Nothing to say.") == 1


def test_empty_settings_show_the_models_defaults(page, model) -> None:
    page.ask("Hello")
    assert model.requests[-1].settings.temperature == 0.7
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Temperature", exact=True)).to_have_attribute("placeholder", "0.7")
    expect(page.get_by_label("Min p")).to_have_attribute("placeholder", "0.05")
    expect(page.get_by_label("Temperature", exact=True)).to_have_value("")
    expect(page.get_by_label("Temperature slider")).to_have_value("0.7")


def test_sliders_set_what_their_boxes_show(page, model) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Top p slider").fill("0.4")
    page.get_by_label("Temperature", exact=True).fill("1.2")
    expect(page.get_by_label("Top p", exact=True)).to_have_value("0.4")
    expect(page.get_by_label("Temperature slider")).to_have_value("1.2")
    page.get_by_role("button", name="Close").click()
    page.ask("Hello")
    got = model.requests[-1].settings
    assert (got.temperature, got.top_p) == (1.2, 0.4)


def test_settings_reach_the_model(page, model) -> None:
    settings(
        page, Temperature="0.25", Top_p="0.9", Top_k="7", Maximum_tokens="33", Seed="12", System_message="Be brief."
    )
    page.ask("Hello")
    got = model.requests[-1].settings
    assert (got.temperature, got.top_p, got.top_k, got.max_tokens, got.seed) == (0.25, 0.9, 7, 33, 12)
    assert "system\nBe brief." in model.prompt()


def test_an_invalid_setting_is_not_sent(page, model) -> None:
    settings(page, Temperature="-1")
    page.send("Hello")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_label("Temperature", exact=True)).to_be_focused()
    assert not model.requests


def test_answers_satisfy_the_schema(page, model) -> None:
    settings(page, JSON_schema='{"type": "object", "properties": {"price": {"type": "number"}}}')
    model.texts.append('{"price": 3}')
    page.ask("How much?")
    assert model.requests[-1].grammar is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"type": objct}', 'This is not valid JSON: expected a value in line 1, column 10, found "o".'),
        (
            '{"type": "object",\n}',
            'This is not valid JSON: expected a name in double quotes in line 2, column 1, found "}".',
        ),
        ("[1, 2", 'This is not valid JSON: expected "," or "]" in line 1, column 6, found the end.'),
        ("[]", 'A JSON schema is an object, such as {"type": "object"}.'),
    ],
)
def test_an_invalid_schema_is_reported_in_place(page, model, text: str, problem: str) -> None:
    settings(page, JSON_schema=text)
    page.send("Hello")
    box = page.get_by_label("JSON schema", exact=True)
    expect(box).to_be_focused()
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert").filter(has_text=problem)).to_be_visible()
    assert not model.requests
    box.fill("")
    expect(box).to_have_attribute("aria-invalid", "false")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("Hello")
    page.ask("Hello")


def test_a_schema_that_the_server_rejects_is_reported_in_place(page, model) -> None:
    settings(page, JSON_schema='{"type": "nothing of the kind"}')
    page.send("Hello")
    box = page.get_by_label("JSON schema", exact=True)
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#schema-error")).to_contain_text("nothing of the kind")
    assert not model.requests
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Settings").click()
    box.fill("")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("article", name="Model")).to_contain_text("Nothing to say.")


WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def test_calls_are_shown_and_results_sent_back(page, model) -> None:
    settings(page, Tools_that_the_model_may_call=json.dumps([WEATHER]))
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "%s"}}\n</tool_call>'
    model.texts.extend([f"{call % 'Oslo'}\n{call % 'Rome'}", "Cold in Oslo, warm in Rome."])
    page.send("What is the weather?")
    calls = page.get_by_role("region", name="Call of weather")
    expect(calls).to_have_count(2)
    expect(calls.first).to_contain_text('"city": "Oslo"')
    expect(calls.first.get_by_label("Result of weather")).to_be_focused()
    page.send("What now?")
    expect(page.locator("#notice")).to_have_text("First send the results of the calls above.")
    calls.nth(0).get_by_label("Result of weather").fill("-4 degrees <b>")
    calls.nth(1).get_by_label("Result of weather").fill("28 degrees")
    page.get_by_role("button", name="Send the results").click()
    expect(page.get_by_role("article", name="Model").last).to_contain_text("Cold in Oslo, warm in Rome.")
    expect(page.get_by_role("article", name="Result")).to_have_count(2)
    expect(page.get_by_role("article", name="Result").first).to_contain_text("-4 degrees <b>")
    prompt = model.prompt()
    assert prompt.index("Oslo") < prompt.index("-4 degrees <b>") < prompt.index("28 degrees")
    assert len(model.requests) == 2


def test_invalid_tools_are_reported_in_place(page, model) -> None:
    settings(page, Tools_that_the_model_may_call='[{"name": "weather"}]')
    page.send("Hello")
    expect(page.locator("#tools-error")).to_contain_text("Tool 1 does not have the form")
    assert not model.requests


def test_an_answer_can_be_tried_again(page, model) -> None:
    model.texts.extend(["First try.", "Second try."])
    page.ask("Hello")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("article", name="Model")).to_contain_text("Second try.")
    expect(page.get_by_role("article")).to_have_count(2)
    assert "First try." not in model.prompt()


def test_a_changed_question_is_answered_anew(page, model) -> None:
    model.texts.extend(["Six.", "Eight.", "Why not?"])
    page.ask("How many legs has a beetle?")
    page.ask("And a spider?")
    first = page.get_by_role("article", name="You").first
    first.get_by_role("button", name="Edit").click()
    first.get_by_role("button", name="Cancel").click()
    first.get_by_role("button", name="Edit").click()
    first.get_by_label("Text of the message").fill("How many legs has a snake?")
    first.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("article", name="Model")).to_have_text(re.compile("Why not?"))
    expect(page.get_by_role("article")).to_have_count(2)
    assert "snake" in model.prompt()
    assert "beetle" not in model.prompt()
    assert "spider" not in model.prompt()


def test_a_changed_answer_stays_in_the_conversation(page, model) -> None:
    model.texts.append("Six.")
    answer = page.ask("How many legs has a beetle?")
    answer.get_by_role("button", name="Edit").click()
    answer.get_by_label("Text of the message").fill("Six, as all insects.")
    answer.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("article", name="Model")).to_contain_text("as all insects")
    assert len(model.requests) == 1
    page.ask("Sure?")
    assert "Six, as all insects." in model.prompt()


def test_a_conversation_survives_a_reload_until_it_is_cleared(page, model) -> None:
    model.texts.extend(["Good **day**.", ENDLESS])
    settings(page, System_message="Be brief.")
    page.ask("Hello")
    page.send("Go on forever")
    expect(page.get_by_role("article", name="Model").last).to_contain_text("word3")
    page.reload()
    expect(page.get_by_role("article")).to_have_count(4)
    expect(page.get_by_role("article", name="Model").first.locator("strong")).to_have_text("day")
    expect(page.get_by_role("article", name="Model").last).to_contain_text("word3")
    expect(page.get_by_role("combobox", name="Model")).to_have_value("scripted")
    page.ask("And now?")
    assert re.search(r"Be brief\.[\s\S]*Good \*\*day\*\*[\s\S]*word3[\s\S]*And now\?", model.prompt())
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Clear what this browser keeps").click()
    page.get_by_role("button", name="Close").click()
    page.reload()
    expect(page.get_by_role("article")).to_have_count(0)
    assert page.evaluate("() => localStorage.length") == 0


def chats(page) -> list[str]:
    """The titles in the list of chats, which is open afterwards."""
    page.get_by_role("button", name="Chats").click()
    expect(page.get_by_role("dialog", name="Chats")).to_be_visible()
    return page.locator("#chat-list .title span").all_inner_texts()


def test_several_conversations_are_kept(page, model) -> None:
    model.texts.extend(["Good **day**.", ENDLESS, "Nice."])
    assert chats(page) == []
    page.keyboard.press("Escape")
    settings(page, System_message="Be brief.")
    page.ask("Hello\nthere")
    page.get_by_role("button", name="New chat").click()
    settings(page, System_message="Be long.")
    page.send("<b>Go on</b> " * 20)
    expect(page.get_by_role("article", name="Model")).to_contain_text("word3")
    titles = chats(page)  # the second one is being answered
    assert titles[0].startswith("<b>Go on</b> <b>Go on</b>")
    assert titles[1] == "Hello"
    assert len(titles[0]) < 90
    page.get_by_role("button", name=re.compile("^Hello.*2 messages")).click()
    expect(page.get_by_role("article", name="Model").locator("strong")).to_have_text("day")
    page.ask("And now?")
    assert re.search(r"Be brief\.[\s\S]*Hello\nthere[\s\S]*And now\?", model.prompt())
    page.reload()
    expect(page.get_by_role("article")).to_have_count(4)
    assert chats(page) == ["Hello", titles[0]]
    expect(page.locator("#chat-list [aria-current]")).to_contain_text("Hello")
    page.locator("#chat-list .title").last.press("Enter")
    expect(page.get_by_role("article", name="Model")).to_contain_text("word3")
    expect(page.get_by_label("System message")).to_have_value("Be long.")


def test_conversations_are_deleted(page, model) -> None:
    model.texts.extend(["One.", "Two.", "Three."])
    for question in ("First", "Second", "Third"):
        page.ask(question)
        page.get_by_role("button", name="New chat").click()
    chats(page)
    page.get_by_role("button", name="Delete Second").press("Enter")
    assert page.locator("#chat-list li").count() == 3  # it asks first
    page.get_by_role("button", name="Delete Second: Really?").press("Enter")
    assert page.locator("#chat-list .title span").all_inner_texts() == ["Third", "First"]
    expect(page.get_by_role("button", name="First").first).to_be_focused()
    page.locator("#chat-list .title").last.click()
    assert chats(page) == ["Third", "First"]
    for name in ("Delete First", "Delete First: Really?"):  # the one that is open
        page.get_by_role("button", name=name).click()
    expect(page.get_by_role("article")).to_have_count(0)
    page.get_by_role("button", name="Delete all").click()
    page.get_by_role("button", name="Delete all, for good?").click()
    expect(page.locator("#no-chats")).to_be_visible()
    assert page.evaluate("() => localStorage.length") == 0


def test_how_much_is_kept_has_a_limit(page, model) -> None:
    fill = """([count, length]) => {
      for (let i = 0; i < count; i++) {
        const messages = [{ role: "user", content: `Old ${i} ` + "x".repeat(length) }];
        localStorage.setItem(`tinyslm.conversation.old${i}`, JSON.stringify({ when: i, messages }));
      }
      localStorage.setItem("tinyslm.conversation.damaged", '{"messages": 1}');
    }"""
    count = "() => Object.keys(localStorage).filter((name) => name.includes('.old')).length"
    for old, length, left in ((120, 10, 99), (40, 100_000, 29)):
        page.evaluate("() => localStorage.clear()")
        page.evaluate(fill, [old, length])
        page.get_by_role("button", name="New chat").click()
        model.texts.append("New.")
        page.ask("Hello")
        assert page.evaluate(count) == left
        titles = chats(page)
        assert titles[0] == "Hello"
        assert titles[1].startswith(f"Old {old - 1} ")
        page.get_by_role("button", name="Close").click()


def test_a_conversation_is_saved_and_opened(page, model, tmp_path) -> None:
    settings(page, Temperature="0.5", System_message="Be brief.")
    model.texts.append("Good **day**.")
    page.ask("Hello")
    page.get_by_role("button", name="Settings").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    file = tmp_path / "saved.json"
    download.value.save_as(file)
    saved = json.loads(file.read_text())
    assert saved["model"] == "scripted"
    assert saved["settings"] == {"temperature": 0.5, "max_tokens": 512}
    assert [message["content"] for message in saved["messages"]] == ["Be brief.", "Hello", "Good **day**."]
    page.get_by_label("System message").fill("")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="New chat").click()
    page.locator("#load-file").set_input_files(file)
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("article", name="Model").locator("strong")).to_have_text("day")
    page.ask("Go on")
    assert "system\nBe brief." in model.prompt()
    assert "Good **day**." in model.prompt()
    assert model.requests[-1].settings.temperature == 0.5


NO_CONVERSATIONS = ["no JSON", "[]", '{"messages": [{"role": "user"}]}', '{"messages": [{"role": "x"}]}']


def test_other_files_than_conversations_are_rejected(page, tmp_path) -> None:
    for number, content in enumerate(NO_CONVERSATIONS):
        file = tmp_path / f"other{number}.json"
        file.write_text(content)
        page.locator("#load-file").set_input_files(file)
        expect(page.locator("#notice")).to_contain_text(f"other{number}.json is no saved conversation")


def test_a_server_with_keys_gets_the_key(visit, serve, model) -> None:
    key, line = make_key("me")
    with serve({"scripted": model}, read_keys(None, line)) as url:
        page = visit(url, waits=False)  # which lists no models without a key
        expect(page.get_by_role("dialog")).to_be_visible()
        expect(page.locator("#key-error")).to_contain_text("needs a valid API key")
        box = page.get_by_label("API key, if the server needs one")
        expect(box).to_be_focused()
        box.fill(key)
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#model option")).to_have_count(1)
        page.reload()  # stored for this tab
        expect(page.locator("#model option")).to_have_count(1)
        page.ask("Hello")
        assert key not in page.evaluate("() => JSON.stringify(localStorage)")
        page.context.close()


def test_an_unreachable_server_is_reported(visit, serve, model) -> None:
    with serve({"scripted": model}) as url:
        page = visit(url)
        page.ask("Hello")
    page.send("Still there?")
    expect(page.locator("#notice")).to_have_text("The server cannot be reached. Is it still running?")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def test_a_prompt_that_is_too_long_is_reported(page, model) -> None:
    page.send("x" * 100_001)
    expect(page.locator("#notice")).to_contain_text("tokens")
    expect(page.get_by_role("article", name="Model")).to_have_count(0)


def test_models_can_be_chosen(page, model) -> None:
    page.get_by_label("Model", exact=True).select_option("tiny")
    settings(page, Maximum_tokens="5")
    answer = page.ask("Hello")
    expect(answer).to_contain_text(re.compile(r"[1-5] tokens"))
    assert not model.requests
