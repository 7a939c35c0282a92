"""The pack `prices`: pages, fields that compare, and events."""

import json
from dataclasses import replace
from html import escape
from itertools import islice
from pathlib import Path
from random import Random

import jsonschema
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.packs.pack import question_of, unique_rows
from tinyslm.packs.prices import PRICES
from tinyslm.packs.prices.events import events_between, history, replay
from tinyslm.packs.prices.fields import answer_of, fields_of, grade
from tinyslm.packs.prices.pages import LONGEST_TEXT, page_text, read_page
from tinyslm.packs.prices.products import LAYOUTS, Page, Shop, product
from tinyslm.packs.rows import make_rows

SKILLS = [skill.name for skill in PRICES.skills]
WRITTEN = [row for _, row in PRICES.written_requests()]


def rows_of(skill: str, split: str, count: int = 60) -> list[dict]:
    return list(islice(unique_rows(PRICES.skill(skill), split, 3), count))


@pytest.mark.parametrize("rows", [*(rows_of(skill, split) for skill in SKILLS for split in ("train", "test")), WRITTEN])
def test_right_answers_are_right_consistent_and_allowed(rows) -> None:
    assert len({question_of(row) for row in rows}) == len(rows)
    for row in rows:
        found = PRICES.grade(row, row["answer"])
        assert found.score == 1, (found, row)
        assert found.parts.get("equal", 1) == found.parts.get("consistent", 1) == found.parts.get("codes", 1) == 1
        assert PRICES.grade(row, "I do not know.").score == 0
        jsonschema.validate(json.loads(row["answer"]), PRICES.constraint(row).value)
        assert 0 < len(question_of(row)) <= LONGEST_TEXT


def test_what_people_wrote_is_not_learned() -> None:
    assert len(WRITTEN) == 100
    brands = {fields.get("brand", "?").casefold() for row in WRITTEN if (fields := json.loads(row["answer"]))}
    for row in rows_of("fields", "train", 400):
        assert json.loads(row["answer"]).get("brand", "").casefold() not in brands
    made = make_rows(PRICES, 300)
    assert len(made.test) > 380
    assert [task.name for task in load_tasks("prices", limit=2)] == PRICES.tasks


@pytest.mark.parametrize(
    ("changes", "equal"),
    [
        ({}, True),
        ({"quantity": 0.5, "unit": "kg"}, True),
        ({"unit_price": 0.6, "per": "100 g"}, True),
        ({"unit_price": 6.1, "per": "kg"}, False),
        ({"quantity": 250, "count": 2}, True),
        ({"unit": "ml"}, False),
        ({"price": "2.99"}, False),
        ({"currency": "USD"}, False),
        ({"gtin": "4006381333931"}, False),
        ({"colour": "red"}, False),
    ],
)
def test_amounts_are_compared_by_computing(changes, equal) -> None:
    fields = {"name": "Oats", "price": 2.99, "currency": "EUR", "quantity": 500, "unit": "g"}
    found = grade({"answer": answer_of(fields)}, json.dumps(fields | changes))
    assert found.parts["equal"] == equal
    assert found.score == 1 if equal else 0 < found.score < 1


def test_codes_and_pages_without_a_product() -> None:
    example = {"answer": '{"name": "Oats", "gtin": "4006381333931"}'}
    assert grade(example, example["answer"]).parts["codes"] == 1
    assert grade(example, '{"name": "Oats", "gtin": "4006381333930"}').parts["codes"] == 0
    assert grade(example, '{"currency": "EUX"}').parts["codes"] == 0
    assert grade({"answer": "{}"}, "{}").parts["refused"] == grade({"answer": "{}"}, "{}").score == 1
    assert grade({"answer": "{}"}, '{"name": "x"}').score == 0
    with pytest.raises(TinyslmError, match="not a JSON object"):
        grade({"answer": "5"}, "{}")


def test_events_follow_from_the_fields() -> None:
    random = Random(1)
    for _ in range(60):
        _, versions, happened = history(random, "test", 6)
        assert replay(versions) == happened


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ({"price": 5}, {"price": 4}, ["dropped"]),
        ({"price": 5, "quantity": 500, "unit": "g"}, {"price": 5, "quantity": 1, "unit": "kg"}, ["resized"]),
        ({"price": 5, "quantity": 500, "unit": "g"}, {"price": 5, "quantity": 0.5, "unit": "kg"}, []),
        ({"price": 5, "quantity": 500, "unit": "g"}, {"price": 4}, ["dropped"]),
        ({"price": 5, "currency": "EUR"}, {"price": 4, "currency": "USD"}, []),
        ({"price": 5, "availability": "out_of_stock"}, {"price": 6, "availability": "in_stock"},
         ["back_in_stock", "risen"]),
        ({"price": 5, "availability": "in_stock"}, {"availability": "out_of_stock"}, ["out_of_stock"]),
        ({"price": 5}, {}, []),
    ],
)  # fmt: skip
def test_what_is_an_event(before, after, kinds) -> None:
    assert sorted(event.kind for event in events_between(before, after)[1]) == kinds


def test_events_are_known_across_versions_that_say_less() -> None:
    versions = [{"price": 5}, {}, {"availability": "out_of_stock"}, {"price": 4, "availability": "in_stock"}]
    assert [[event.kind for event in events] for events in replay(versions)] == [
        [],
        [],
        [],
        ["dropped", "back_in_stock"],
    ]


def test_pages_are_shortened_and_keep_what_matters() -> None:
    page = (
        "<title>T</title><nav>Menu</nav><h1>Oats 500 g</h1><del>5.00</del><meta itemprop='priceCurrency' content='EUR'>"
    )
    assert page_text(page).splitlines() == ["T", "Oats 500 g", "~~5.00", "priceCurrency: EUR"]
    long = f"<h1>Oats</h1>{'<p>' + 'words ' * 30 + '</p>'}" + "".join(f"<p>{n} words</p>" for n in range(900))
    assert "4,99 €" in page_text(f"{long}<p>4,99 €</p>")
    assert len(page_text(long)) <= LONGEST_TEXT


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_without_structured_data_say_the_same_as_their_text(layout: str) -> None:
    for seed in range(20):
        random = Random(seed)
        shop = Shop.invented(random, "test" if seed % 3 == 0 else "train")
        text = replace(Page.invented(random, shop), html=False).show(product(random, shop))
        first, *rows = map(escape, text.split("\n"))
        page = f"<html><body><nav>Shop</nav>{LAYOUTS[layout](first, rows)}</body></html>"
        assert page_text(page).replace(" ", "") == page_text(text).replace(" ", ""), seed


PARTS = {
    '<h1>Pan</h1><b>$<i>24</i><span class="dec">.</span><span class="fraction">50</span></b>': "Pan\n$24.50",
    '<h1>Pan</h1><p>5<span class="price-cents">49</span> €<small>/Stück</small></p>': "Pan\n5.49 €/Stück",
    "<h1>Phone 15 <small>64 GB</small></h1><p>3 <b>12</b></p>": "Phone 15 64 GB\n3 12",
    "<h1>Soap</h1><select><option>1</select><select><option>1 l<option selected>2 l £6</select>": "Soap\n2 l £6",
    "<h1>Pan</h1><p>$24.00</p><aside>Lid $9.00</aside><header>Cart $0.00</header>": "Pan\n$24.00",
    "<header><div><h1>Pan</h1><p>24,00 zł</p></div></header><p>Steel</p>": "Pan\n24,00 zł\nSteel",
    "<h1>Bike</h1><noscript><div>EUR 499</div></noscript>": "Bike\nEUR 499",
}


@pytest.mark.parametrize("page", PARTS)
def test_parts_of_a_page_are_read_as_people_see_them(page: str) -> None:
    assert page_text(page) == PARTS[page]


def test_of_a_huge_page_only_the_start_is_read(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with path.open("wb") as file:
        file.write("<h1>Käse</h1><p>5 €</p>".encode())
        file.write(b" " * 50_000_000)
        file.write(b"<p>the end</p>")
    assert read_page(path).splitlines()[:2] == ["Käse", "5 €"]
    path.write_bytes(b"<html></html>")
    with pytest.raises(TinyslmError, match="shows no text"):
        read_page(path)


def test_rows_are_imported() -> None:
    row = PRICES.convert({"input": "acme lamp 5.99", "output": "title: acme lamp\nbrand: acme\nprice: 5.99"})
    assert row is not None
    assert json.loads(row["answer"]) == {"name": "lamp", "brand": "acme", "price": 5.99}
    own = PRICES.convert({"page": "Oats 4 EUR", "fields": {"price": 4}, "before": {"price": 5}})
    assert own is not None
    assert (own["skill"], own["events"]) == ("events", [["dropped", 5, 4]])
    assert PRICES.convert({"page": "x", "fields": {"colour": 1}}) is None


def test_the_baseline_and_the_demo(tmp_path: Path) -> None:
    answer = PRICES.baseline([])
    rows = rows_of("fields", "test")
    assert all(fields_of(text) is not None for text in answer(rows))
    path = tmp_path / "page.html"
    path.write_text("<h1>Oats 500 g</h1><p>EUR 2.99</p>")
    shown = PRICES.demo(path, "", answer, tmp_path / "out.json")
    assert shown.data["fields"]["price"] == json.loads((tmp_path / "out.json").read_text())["price"] == 2.99
    assert "computed:     5.98 per kg" in shown.lines
    assert "not that of the price" in "".join(
        PRICES.demo(
            path, "", lambda _: ['{"price": 1, "quantity": 1, "unit": "kg", "unit_price": 9, "per": "kg"}'], None
        ).lines
    )
    with pytest.raises(TinyslmError, match="could not be read"):
        PRICES.demo(tmp_path / "none", "", answer, None)


def test_constrained_decoding_allows_every_right_answer(byte_tokenizer) -> None:
    grammar = PRICES.constraint({"skill": "fields"}).compile(byte_tokenizer)
    for row in [*WRITTEN, *rows_of("fields", "train", 30)]:
        matcher, ids = grammar.matcher(), byte_tokenizer.encode(row["answer"])
        assert matcher.take(ids) == len(ids), row["answer"]
        assert matcher.accepts
