"""Generated text is data: it becomes text and a few kinds of elements, and executes nothing."""

import json

import pytest
from playwright.sync_api import expect
from test_chat_page import WEATHER, settings

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)" onclick="alert(1)">click</a>',
    "<svg onload=alert(1)><iframe src='https://evil.example/'></iframe>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](java\tscript:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](data:text/html,<script>alert(1)</script>)",
    "[click](vbscript:msgbox(1))",
    "[click](//evil.example/a)",
    "[click](/v1/models)",
    "[click](blob:https://evil.example/1)",
    "<javascript:alert(1)>",
    "![picture](https://evil.example/pixel.png)",
    "![picture](data:image/png;base64,AAAA)",
    "[![picture](https://evil.example/p.png)](javascript:alert(1))",
    '<style>*{display:none}</style><link rel=stylesheet href="https://evil.example/a.css">',
    '<form action="https://evil.example"><input name=q><button>go</button></form>',
    "```html\n<script>alert(1)</script>\n```",
    "`<img src=x onerror=alert(1)>`",
    "# <script>alert(1)</script>",
    "- <script>alert(1)</script>\n  - <img src=x onerror=alert(1)>",
    "> <script>alert(1)</script>",
    "**<script>alert(1)</script>**",
    '<base href="https://evil.example/"><meta http-equiv=refresh content="0;url=https://evil.example/">',
    "{{constructor.constructor('alert(1)')()}} ${alert(1)}",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
]
ALLOWED = {
    "A", "BLOCKQUOTE", "CODE", "DIV", "EM", "H3", "H4", "H5", "H6", "HR", "LI", "OL", "P", "PRE", "SPAN", "STRONG",
    "UL",
}  # fmt: skip


def drawn(answer) -> dict:
    """The elements of an answer's body, their attributes and links, and its text."""
    return answer.locator(".body").evaluate(
        """(body) => {
          const all = [...body.querySelectorAll("*")];
          return {
            names: all.map((node) => node.tagName),
            attributes: all.flatMap((node) => node.getAttributeNames()),
            links: all.filter((node) => node.tagName === "A").map((node) => node.href),
            text: body.textContent,
          };
        }"""
    )


def test_markup_does_nothing(page, model) -> None:
    model.texts.extend(ATTACKS)
    for attack in ATTACKS:
        found = drawn(page.ask("Attack"))
        assert set(found["names"]) <= ALLOWED, attack
        assert not [name for name in found["attributes"] if name.startswith(("on", "src", "style"))], attack
        # What is written as a web address may be a link to it, which only the user can follow.
        assert all(link.startswith("https://evil.example/") for link in found["links"]), attack
    page.wait_for_timeout(200)
    assert page.url.count("/") == 3  # still here


def test_markup_is_shown_as_text(page, model) -> None:
    model.texts.extend(ATTACKS[:4])
    for attack in ATTACKS[:4]:
        assert drawn(page.ask("Attack"))["text"] == attack


def test_plain_text_does_nothing_either(page, model) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Render Markdown").uncheck()
    page.get_by_role("button", name="Close").click()
    model.texts.extend(["**bold** <script>alert(1)</script>", "[click](https://example.com/)"])
    found = drawn(page.ask("Attack"))
    assert (found["names"], found["text"]) == (["P"], "**bold** <script>alert(1)</script>")
    assert drawn(page.ask("Attack"))["links"] == []


def test_what_the_user_writes_and_opens_does_nothing(page, model, tmp_path) -> None:
    page.ask("<img src=x onerror=alert(1)> [a](javascript:alert(1)) **b**")
    mine = page.get_by_role("article", name="You")
    expect(mine.locator(".body")).to_have_text("<img src=x onerror=alert(1)> [a](javascript:alert(1)) **b**")
    evil = "<img src=x onerror=alert(1)>"
    call = {"id": evil, "type": "function", "function": {"name": evil, "arguments": evil}}
    messages = [
        {"role": "user", "content": evil},
        {"role": "assistant", "content": evil, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": evil, "content": evil},
    ]
    file = tmp_path / "evil.json"
    file.write_text(json.dumps({"model": evil, "messages": messages, "settings": {"temperature": evil}}))
    page.locator("#load-file").set_input_files(file)
    expect(page.get_by_role("article")).to_have_count(3)
    assert page.locator("#log img").count() == 0


def test_arguments_of_calls_do_nothing(page, model) -> None:
    settings(page, Tools_that_the_model_may_call=json.dumps([WEATHER]))
    call = {"name": "weather", "arguments": {"city": "</pre><img src=x onerror=alert(1)>"}}
    model.texts.append(f"<tool_call>\n{json.dumps(call)}\n</tool_call>")
    page.send("Weather?")
    expect(page.get_by_role("region", name="Call of weather")).to_contain_text("</pre><img src=x onerror=alert(1)>")
    assert page.locator("#log img").count() == 0


def test_control_characters_are_escaped(page, model) -> None:
    model.texts.append("left \u202eright\u202c \x1b[31m \x00 \x07")
    assert drawn(page.ask("Attack"))["text"] == r"left \u202eright\u202c \x1b[31m \x00 \x07"


def test_links_show_their_target(page, model) -> None:
    model.texts.append("[my bank](https://evil.example/login) and https://example.com/a_b_c. [m](mailto:a@example.com)")
    answer = page.ask("Links")
    bank = answer.get_by_role("link", name="my bank")
    expect(bank).to_have_attribute("rel", "noopener noreferrer")
    expect(bank).to_have_attribute("target", "_blank")
    expect(answer).to_contain_text("my bank (https://evil.example/login)")
    expect(answer).to_contain_text("m (mailto:a@example.com)")
    assert drawn(answer)["links"] == [
        "https://evil.example/login",
        "https://example.com/a_b_c",
        "mailto:a@example.com",
    ]


def test_inline_scripts_are_forbidden(page) -> None:
    """Should a way past all of the above be found one day, the browser still runs nothing."""
    policy = page.request.get(page.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for attack in (
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.setAttribute('onclick', 'alert(1)')",
        "document.createElement('script').text = 'alert(1)'",
        "document.createElement('iframe').srcdoc = '<b>x</b>'",
    ):
        with pytest.raises(Exception, match="requires 'Trusted"):
            page.evaluate(f"() => {{ {attack}; }}")
    page.complaints.clear()


def test_markdown_is_formatted(page, model) -> None:
    model.texts.append(
        "# Title\n\nSome *words*, some **strong**, some `code <b>`, snake_case_name, 2 * 3 * 4.\nNext line.\n\n"
        "- one\n- two\n  1. deep\n  2. deeper\n- three\n\n3. third\n4. fourth\n\n> wise\n\n---\n\n"
        "```python\nprint('hi')\n\n# no heading\n```\nend"
    )
    body = page.ask("Markdown").locator(".body")
    assert body.evaluate("(node) => node.innerHTML") == (
        '<h3 dir="auto">Title</h3>'
        '<p dir="auto">Some <em>words</em>, some <strong>strong</strong>, some <code>code &lt;b&gt;</code>, '
        "snake_case_name, 2 * 3 * 4.\nNext line.</p>"
        '<ul><li dir="auto">one</li><li dir="auto">two<ol><li dir="auto">deep</li><li dir="auto">deeper</li></ol></li>'
        '<li dir="auto">three</li></ul>'
        '<ol start="3"><li dir="auto">third</li><li dir="auto">fourth</li></ol>'
        '<blockquote><p dir="auto">wise</p></blockquote><hr>'
        '<pre tabindex="0" aria-label="Code, python" role="region"><code>print(\'hi\')\n\n# no heading</code></pre>'
        '<p dir="auto">end</p>'
    )


HEAVY = [
    "`" * 20_000, "*" * 20_000, "[" * 20_000, "> " * 5_000, "- " * 5_000, "**a" * 5_000, "`a " * 5_000, "#" * 9_999,
]  # fmt: skip


def test_no_text_makes_the_page_hang(page) -> None:
    for text in HEAVY:
        count, seconds = page.evaluate(
            """async (text) => {
              const { render } = await import("/page/markdown.js");
              const began = performance.now();
              const drawn = render(text);
              return [drawn.childNodes.length, (performance.now() - began) / 1000];
            }""",
            text,
        )
        assert count > 0
        assert seconds < 30, text[:20]
