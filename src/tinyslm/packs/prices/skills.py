"""The rows of the pack: pages, and the fields that are in them."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.packs.pack import Row, Skill, Split
from tinyslm.packs.prices.events import events_between, grade_events, make_events
from tinyslm.packs.prices.fields import FIELDS as NAMES
from tinyslm.packs.prices.fields import answer_of, grade, schema
from tinyslm.packs.prices.pages import page_text
from tinyslm.packs.prices.products import Page, Shop, no_product, per_of, product, with_unit_price
from tinyslm.packs.product_rows import product_of

SYSTEM = (
    f"Write the product of the page as JSON with the fields {', '.join(NAMES)}, those that are there. "
    "A page of no product, or of several, is {}."
)
LONGEST = 300
"""Tokens of an answer."""
NOTHING = 0.06
"""The share of generated pages without a single product."""


def row_of(page: str, fields: Mapping[str, Any]) -> Row:
    """A row: a page, of which the model reads `page_text`, and the right fields."""
    answer = answer_of(fields)
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": page_text(page)},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages, "answer": answer, "page": page}


def _make(random: Random, split: Split) -> Row:
    shop = Shop.invented(random, split)
    if random.random() < NOTHING:
        return row_of(no_product(random, shop), {})
    fields = product(random, shop)
    fields = with_unit_price(fields, shop, per_of(random, fields))
    return row_of(Page.invented(random, shop).show(fields), fields)


def _convert(row: Mapping[str, Any]) -> Row | None:
    """A row with a "page" and its "fields", or one of a published set; see `product_of`."""
    if "before" in row:
        return None
    if isinstance(row.get("page"), str) and isinstance(row.get("fields"), Mapping):
        return row_of(row["page"], row["fields"]) if set(row["fields"]) <= set(NAMES) else None
    if (found := product_of(row)) is None:
        return None
    text, stated = found
    brand = stated.get("brand", stated.get("manufacturer"))
    name = stated["title"].removeprefix(f"{brand} ") if brand else stated["title"]
    fields = {"name": name, "brand": brand, "price": stated.get("price")}
    return row_of(text, {name: value for name, value in fields.items() if value is not None})


def _convert_events(row: Mapping[str, Any]) -> Row | None:
    """A row with a "page", its "fields", and what was known "before"."""
    page, fields, before = row.get("page"), row.get("fields"), row.get("before")
    if not (isinstance(page, str) and isinstance(fields, Mapping) and isinstance(before, Mapping)):
        return None
    events = [list(event) for event in events_between(before, fields)[1]]
    return {**row_of(page, fields), "before": dict(before), "events": events}


def constraint(_: Row) -> OutputConstraint:
    """Answers fit the schema of the fields."""
    return OutputConstraint("schema", schema())


FIELDS = Skill(
    "fields",
    "product pages to JSON, by the F1 of the fields",
    _make,
    grade,
    convert=_convert,
    max_tokens=LONGEST,
    constraint=constraint,
)
EVENTS = Skill(
    "events",
    "what changed on a page: the events that follow from its fields",
    lambda random, split: make_events(random, split, row_of),
    grade_events,
    convert=_convert_events,
    max_tokens=LONGEST,
    constraint=constraint,
)
