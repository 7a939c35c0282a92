"""Prices: product pages to fields that compare, and events from the versions of a page."""

from tinyslm.packs.pack import Pack
from tinyslm.packs.prices.skills import EVENTS, FIELDS

PRICES = Pack(
    "prices",
    "product pages to JSON with prices that compare, and alarms that are right",
    (FIELDS, EVENTS),
    settings={"train": {"grader": "prices"}},
)
