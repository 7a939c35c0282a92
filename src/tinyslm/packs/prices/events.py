"""What changed between versions of a page: computed from the fields of each, without a model.

The rows of the skill `events` are pages with what was known before; the answer is the fields of the page, and the grade
is whether the events that follow from it are the right ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, NamedTuple

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import Example, Grade
from tinyslm.packs.pack import Row, Split
from tinyslm.packs.prices.fields import Amount, fields_of, size_of
from tinyslm.packs.prices.products import Fields, Page, Shop, per_of, product, with_unit_price

DROPPED, RISEN, RESIZED = "dropped", "risen", "resized"
BACK, OUT = "back_in_stock", "out_of_stock"
SIZE = ("quantity", "unit", "count")
FOLLOWED = ("price", "currency", "availability", *SIZE)
"""The fields that are compared. What a version does not state is as it was."""


class Event(NamedTuple):
    """What happened, and the price or the availability before and after."""

    kind: str
    before: Any
    after: Any


def events_between(before: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[Fields, list[Event]]:
    """What is known after a version with these fields, and what has happened since `before`.

    A price has dropped or risen only if it is for the same amount in the same currency: another pack size is
    "resized", whatever its price. A version without fields, such as an error page, changes nothing.
    """
    known: Fields = {name: fields[name] for name in FOLLOWED if fields.get(name) is not None}
    if any(name in known for name in SIZE):
        now = known
    else:
        now = {name: before[name] for name in SIZE if name in before} | known
    now = {**{name: value for name, value in before.items() if name not in SIZE}, **now}
    old, new = before.get("price"), now.get("price")
    events = []
    if isinstance(old, int | float) and isinstance(new, int | float):
        was_size, is_size = size_of(before), size_of(now)
        comparable = before.get("currency", now.get("currency")) == now.get("currency")
        if was_size and is_size and not _same_size(was_size, is_size):
            events.append(Event(RESIZED, old, new))
        elif comparable and abs(new - old) > 1e-6 * max(abs(old), 1.0):
            events.append(Event(DROPPED if new < old else RISEN, old, new))
    was, is_now = before.get("availability"), now.get("availability")
    if was is not None and (was == OUT) != (is_now == OUT):
        events.append(Event(OUT if is_now == OUT else BACK, was, is_now))
    return now, events


def replay(versions: Iterable[Mapping[str, Any]]) -> list[list[Event]]:
    """The events of each version of a page, from the fields of all of them in the order of their time."""
    known: Fields = {}
    found = []
    for fields in versions:
        known, events = events_between(known, fields)
        found.append(events)
    return found


def _same_size(ours: Amount, theirs: Amount) -> bool:
    return ours.dimension == theirs.dimension and abs(ours.value - theirs.value) <= 1e-6 * ours.value


def history(random: Random, split: Split, length: int = 2) -> tuple[Page, list[Fields], list[list[Event]]]:
    """A page, the fields of its versions, and the events of each as they were chosen."""
    shop = Shop.invented(random, split)
    page = Page.invented(random, shop)
    fields = {"availability": "in_stock", **product(random, shop)}
    per = per_of(random, fields)
    versions, happened = [with_unit_price(fields, shop, per)], list[list[Event]]([[]])
    while len(versions) < length:
        fields, events = _changed(random, shop, fields)
        versions.append(with_unit_price(fields, shop, per))
        happened.append(events)
    return page, versions, happened


def _changed(random: Random, shop: Shop, fields: Fields) -> tuple[Fields, list[Event]]:
    """The next version of a product, and what happened."""
    now, events, price = dict(fields), list[Event](), fields["price"]
    what = random.choice(("nothing", "price", "price", "size", "stock", "both"))
    if what == "size" and "quantity" in fields:
        factor = random.choice((2, 3, 0.5))
        now["quantity"] = fields["quantity"] * factor
        now["price"] = random.choice((price, round(price * factor, 2 if shop.country.cents else 0)))
        events.append(Event(RESIZED, price, now["price"]))
    elif what in ("price", "both"):
        changed = price * random.choice((0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.3, 2))
        now["price"] = round(changed, 2 if shop.country.cents else -1 if price >= 100 else 0)
        if now["price"] != price:
            events.append(Event(DROPPED if now["price"] < price else RISEN, price, now["price"]))
    if what in ("stock", "both"):
        was = fields["availability"]
        now["availability"] = random.choice(("in_stock", "preorder")) if was == OUT else OUT
        events.append(Event(BACK if was == OUT else OUT, was, now["availability"]))
    return now, events


def make_events(random: Random, split: Split, row_of: Any) -> Row:
    """A row of the skill `events`."""
    page, versions, happened = history(random, split)
    known, _ = events_between({}, versions[0])
    return {**row_of(page.show(versions[1]), versions[1]), "before": known, "events": [list(e) for e in happened[1]]}


def grade_events(example: Example, answer: str) -> Grade:
    """Whether the right events follow from the fields in the answer."""
    before, wanted, given = example.get("before"), example.get("events"), fields_of(answer)
    if not isinstance(before, Mapping) or not isinstance(wanted, list):
        raise TinyslmError('An example has no "before" and "events".', "Grade rows of tinyslm packs data prices.")
    if given is None:
        return Grade(0.0, {"valid": 0.0}, "not a JSON object")
    found = [list(event) for event in events_between(before, given)[1]]
    right = sorted(map(str, _plain(found))) == sorted(map(str, _plain(wanted)))
    alarmed = {event[0] for event in found} - {event[0] for event in wanted}
    return Grade(float(right), {"valid": 1.0, "false_alarm": float(bool(alarmed))}, "" if right else f"found {found}")


def _plain(events: Iterable[Iterable[Any]]) -> list[list[Any]]:
    return [[float(part) if isinstance(part, int | float) else part for part in event] for event in events]
