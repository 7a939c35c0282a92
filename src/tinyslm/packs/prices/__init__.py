"""Prices: product pages to fields that compare, and events from the versions of a page."""

from pathlib import Path

from tinyslm.packs.pack import Pack
from tinyslm.packs.prices.baseline import baseline
from tinyslm.packs.prices.demo import demo
from tinyslm.packs.prices.skills import EVENTS, FIELDS
from tinyslm.packs.prices.tracking import watching
from tinyslm.packs.watching import WATCHING

PRICES = Pack(
    "prices",
    "product pages to JSON with prices that compare, and alarms that are right",
    (FIELDS, EVENTS),
    settings={"train": {"grader": "prices"}},
    requests=Path(__file__).with_name("requests.jsonl"),
    baseline=baseline,
    demo=demo,
)

WATCHING.add(PRICES.name, watching)
