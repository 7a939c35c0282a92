"""Product texts to JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tinyslm.evaluation.graders import GRADERS, Example, Grade
from tinyslm.packs.pack import Row, Skill, Split
from tinyslm.packs.product_rows import FIELDS, product_of

BRANDS: Mapping[Split, Sequence[str]] = {
    "train": ("Norvik", "Altro", "Bellano", "Cordis", "Dexaline", "Eberle", "Fjordland", "Granit", "Helio", "Ivano",
              "Jovita", "Kestrel", "Lumen & Co", "Mirado"),
    "test": ("Ostara", "Pelikano", "Quadrix", "Rivella", "Sonnfeld", "Tarvo"),
}  # fmt: skip
GOODS: Mapping[Split, Sequence[str]] = {
    "train": ("desk lamp", "office chair", "kettle", "phone case", "backpack", "projector", "radio", "keyboard",
              "water bottle", "bath towel", "frying pan", "tripod", "usb cable", "garden hose", "wall clock"),
    "test": ("headphones", "coffee grinder", "sleeping bag", "bookshelf", "doormat", "bicycle pump", "monitor arm"),
}  # fmt: skip
QUALITIES: Mapping[Split, Sequence[str]] = {
    "train": ("red", "black", "wireless", "foldable", "large", "compact", "stainless", "oak", "waterproof", "12 inch",
              "2 liter", "classic", "led", "soft"),
    "test": ("blue", "grey", "cordless", "slim", "bamboo", "30 cm", "heavy duty", "vintage"),
}  # fmt: skip
PAGES: Mapping[Split, Sequence[str]] = {
    "train": (
        "{brand} {title} price {price}",
        "{title} by {brand} - now only ${price}",
        "{brand} {title} (model {model}) ${price}",
        "NEW! {title}. Brand: {brand}. Model no. {model}. Price: {price} USD",
        "{title} {model} {brand} {price}",
        "{title} | {price} dollars | free shipping over $50",
        "Product: {title}\nMaker: {brand}\nItem: {model}\nYour price: ${price}",
        "{brand} {title}, rated 4.5 of 5 stars by 212 buyers, ${price}, in stock",
        "{title} ... {brand} ... currently unavailable",
        "{brand} {title}\nwas ${old}, today ${price}",
    ),
    "test": (
        "Buy the {title} from {brand} for {price} dollars while it lasts",
        "{brand} / {title} / {model} / {price}",
        "Our offer: {title}, made by {brand}. You pay ${price} instead of ${old}.",
        "[{model}] {title} - {brand}\nprice per piece {price}, 30 days return",
        "{title} ({brand}), sold out",
    ),
}
TASKS: Mapping[Split, Sequence[str]] = {
    "train": (
        "Extract the title, brand, modelno and price of this product as JSON; leave out what is not there.",
        "Write the product below as JSON with the fields title, brand, modelno and price, those that are there.",
        "Product text to JSON (title, brand, modelno, price):",
    ),
    "test": (
        "Turn this shop text into a JSON object with title, brand, modelno and price, if they are known.",
        "From the following text, give me title, brand, modelno and price in JSON, without unknown ones.",
    ),
}
IMPORTED_TASK = f"Extract the product fields from this page as JSON ({', '.join(FIELDS)}, those that are there)."


def make(random: Random, split: Split) -> Row:
    """A product text, with the fields that are in it."""
    page = random.choice(PAGES[split])
    qualities = random.sample(QUALITIES[split], random.randint(0, 2))
    cents = random.choice((random.randint(100, 99_999), 100 * random.randint(1, 900), 100 * random.randint(1, 200) - 1))
    price = cents / 100
    model = f"{''.join(random.choices('ABCDEFGHKLMPRSTVX', k=2))}-{random.randint(100, 9999)}"
    values: dict[str, Any] = {
        "title": " ".join([*qualities, random.choice(GOODS[split])]),
        "brand": random.choice(BRANDS[split]),
        "modelno": model,
        "price": price,
    }
    shown = f"{price:.2f}"
    filled = page.format(
        title=values["title"], brand=values["brand"], model=model, price=shown, old=f"{price * 1.25:.2f}"
    )
    names = {"title": "{title}", "brand": "{brand}", "modelno": "{model}", "price": "{price}"}
    fields = {name: values[name] for name, mark in names.items() if mark in page}
    return _row(f"{random.choice(TASKS[split])}\n\n{filled}", fields)


def convert(row: Mapping[str, Any]) -> Row | None:
    """A row of a published set; see `product_of`."""
    found = product_of(row)
    return None if found is None else _row(f"{IMPORTED_TASK}\n\n{found[0]}", found[1])


def _row(asked: str, fields: Mapping[str, Any]) -> Row:
    answer = json.dumps(fields, ensure_ascii=False)
    return {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
        "answer": answer,
    }


def grade(example: Example, answer: str) -> Grade:
    """F1 of the fields and values of the JSON object in the answer; see the grader `json`."""
    return GRADERS["json"](example, answer)


EXTRACTION = Skill("extraction", "product texts to JSON, by the F1 of their fields", make, grade, convert=convert)
