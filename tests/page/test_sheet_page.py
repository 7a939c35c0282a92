"""The page of the pack excel: a sheet that a person edits, a request, the formula and its value."""

import json

import pytest
from playwright.sync_api import expect

from tinyslm.inference.request import Request
from tinyslm.packs import EXCEL


@pytest.fixture(scope="module")
def sheet_url(serve, _scripted):
    """A server with the page."""
    assert EXCEL.page is not None
    with serve({"scripted": _scripted}, pages=[EXCEL.page()]) as url:
        yield url


@pytest.fixture
def page(visit, sheet_url: str):
    return visit(f"{sheet_url}/excel")


def value(page):
    return page.locator("#value")


def test_a_request_becomes_a_formula_with_a_value_that_follows_the_sheet(page, model) -> None:
    model.texts.append('=SUMIF(B2:B7,"North",D2:D7)')
    page.get_by_label("What do you want to know?").fill("units in the north")
    page.get_by_role("button", name="Write the formula").click()
    expect(page.get_by_label("Formula")).to_have_value('=SUMIF(B2:B7,"North",D2:D7)')
    expect(value(page)).to_have_text("55", timeout=60_000)  # the engines start
    asked: Request = model.requests[0]
    assert asked.grammar is not None
    page.get_by_label("D2", exact=True).fill("100")
    expect(value(page)).to_have_text("143")
    expect(page.locator("td.used")).to_have_count(12)
    expect(page.locator("td.result")).to_have_count(0)
    page.get_by_label("Formula").fill("=D2*2")
    expect(page.locator("td.result")).to_have_text(["", "200", "14", "80", "10", "18", "6"])
    for formula, shown in (
        ("=MAX(A2:A7)", "2026-03-20"),
        ("=EDATE(A2,1)", "2026-04-02"),
        ("=A2", "2026-03-02"),
        ('=INDEX(A2:A7,MATCH("(",C2:C7,0))', "#N/A"),
        ("=MAX(A2:A7)-MIN(A2:A7)", "18"),
        ("=SUM(D2:D7)", "164"),
        ("=INDEX(A2:E7,1,4)", "100"),
    ):
        page.get_by_label("Formula").fill(formula)
        expect(value(page)).to_have_text(shown)
    page.get_by_label("Formula").fill("=D2*2")
    page.get_by_label("D3", exact=True).fill("x")
    expect(page.locator("td.result.wrong")).to_have_text(["#VALUE!"])
    page.get_by_label("Formula").fill("=D2/0")
    expect(value(page)).to_have_text("#DIV/0!")
    expect(value(page)).to_have_class("wrong")
    page.get_by_label("Formula").fill("no formula")
    expect(value(page)).to_have_text("")


def test_a_sheet_that_cannot_answer(page, model) -> None:
    model.texts.append("CANNOT")
    page.get_by_label("What do you want to know?").fill("the weather")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_have_text("The model says that this sheet cannot answer this.")
    expect(page.get_by_label("Formula")).to_have_value("")
    page.get_by_label("Formula").fill("=D2")
    expect(page.locator("#notice")).to_have_text("")


def test_cells_are_pasted_and_reached_by_keyboard(page) -> None:
    page.get_by_role("button", name="Clear the sheet").click()
    copied = "Name\tHours\nAda\t3\nBob\t4.5\n"
    page.get_by_label("A1", exact=True).focus()
    page.evaluate(
        """(text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", text);
          const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
          document.activeElement.dispatchEvent(event);
        }""",
        copied,
    )
    page.get_by_label("Formula").fill("=SUM(B2:B3)")
    expect(value(page)).to_have_text("7.5")
    page.get_by_label("A1", exact=True).press("Enter")
    expect(page.get_by_label("A2", exact=True)).to_be_focused()
    page.get_by_role("button", name="Add a column").click()
    expect(page.get_by_label("F1", exact=True)).to_be_focused()
    page.get_by_role("button", name="Add a row").click()
    expect(page.get_by_label("A9", exact=True)).to_be_focused()


def test_a_reload_keeps_the_sheet(page) -> None:
    page.get_by_label("What do you want to know?").fill("all units")
    page.get_by_label("Formula").fill("=SUM(D2:D7)")
    page.get_by_label("D2", exact=True).fill("1000")
    page.get_by_role("button", name="Add a column").click()
    page.reload()
    expect(page.get_by_label("What do you want to know?")).to_have_value("all units")
    expect(page.get_by_label("Formula")).to_have_value("=SUM(D2:D7)")
    expect(page.get_by_label("F1", exact=True)).to_be_visible()
    expect(value(page)).to_have_text("1064")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"PK\x03\x04\x14\x00\x00\x00",
            "This file is not a CSV file. In a spreadsheet program, save the sheet as CSV.",
        ),
        (b"", "This file has no cells."),
        ("\ufeffName;Zahl\r\nZoë;3,5\r\n".encode("utf-16-le"), ""),
        ("Name;Zahl\r\nZoë;3,5\r\n".encode("cp1252"), ""),
    ],
)
def test_files_that_are_opened(page, content: bytes, said: str) -> None:
    page.get_by_label("CSV file").set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": content})
    expect(page.locator("#notice")).to_have_text(said)
    expect(page.get_by_label("A2", exact=True)).to_have_value("2026-03-02" if said else "Zoë")


def test_what_the_page_asks(sheet_url: str) -> None:
    import httpx

    sheet = {"headers": ["Day", "Units"], "rows": [["2026-03-14", "3"], ["2026-03-15"]]}
    with httpx.Client(base_url=sheet_url) as http:
        found = http.post("/packs/excel/question", json={**sheet, "request": "total"}).json()
        assert found["messages"][0]["content"] == "Day A: date\nUnits B: 3 | (blank)\nrows 2 to 3\n\ntotal"
        assert found["response_format"]["type"] == "lark"
        assert http.post("/packs/excel/value", json={**sheet, "formula": "=YEAR(A3)"}).json() == {"grid": [["2026"]]}
        filled = http.post("/packs/excel/value", json={**sheet, "formula": "=B2+1", "fill": True}).json()
        assert filled == {"grid": [["4"], ["1"]]}
        for wrong in ({"rows": []}, {"headers": ["x"] * 30}, {"rows": [["y" * 300]]}, {"formula": ""}, {"other": 1}):
            refused = http.post("/packs/excel/value", json={**sheet, "formula": "=1", **wrong})
            assert refused.status_code == 400, json.dumps(wrong)[:80]
