"""The fields of a product page: their schema, how they compare, and the grader of the skill `fields`.

Amounts are compared in base units, which `pint` computes: 500 ml are 0.5 l, and 1.25 per 100 g are 12.50 per kg.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.strict_json import JsonError, parse_json
from tinyslm.evaluation.graders import Example, Grade, first_json

UNITS = MappingProxyType(
    {
        **{"mg": "milligram", "g": "gram", "kg": "kilogram", "oz": "ounce", "lb": "pound"},
        **{"ml": "milliliter", "cl": "centiliter", "dl": "deciliter", "l": "liter", "fl oz": "fluid_ounce"},
        **{"pt": "pint", "qt": "quart", "gal": "gallon"},
        **{"cm": "centimeter", "m": "meter", "ft": "foot", "m2": "meter**2", "piece": "dimensionless"},
    }
)
"""Units of contents, and their names in `pint`."""
AVAILABILITY = ("in_stock", "out_of_stock", "preorder")
FIELDS = (
    *("name", "brand", "price", "currency", "quantity", "unit", "count"),
    *("unit_price", "per", "availability", "gtin"),
)
"""In the order in which they are written; a page has some of them. A page of no product, or of several, has none."""

_PER = re.compile(rf"(?:(\d{{1,4}}) )?({'|'.join(UNITS)})")
ROUNDED, WHOLE, CLOSE = 0.0051, 0.51, 0.01
"""How far a price that was rounded to cents or to whole units may be off; and any, in relation to itself."""


class Amount(NamedTuple):
    """So many base units of a dimension, such as 0.5 kg of "[mass]"."""

    dimension: str
    value: float


@lru_cache(1)
def schema() -> dict[str, Any]:
    """The JSON schema of an answer. Raises `TinyslmError` without the extra `packs`."""
    text, number = {"type": "string", "minLength": 1, "maxLength": 200}, {"type": "number", "minimum": 0}
    of: dict[str, Any] = {
        **{"name": text, "brand": {**text, "maxLength": 60}, "price": number},
        **{"currency": {"enum": sorted(currencies())}, "quantity": number, "unit": {"enum": list(UNITS)}},
        **{"count": {"type": "integer", "minimum": 1}, "unit_price": number},
        **{"per": {"type": "string", "pattern": f"^{_PER.pattern}$"}, "availability": {"enum": list(AVAILABILITY)}},
        "gtin": {"type": "string", "pattern": "^(\\d{8}|\\d{12,14})$"},
    }
    return {"type": "object", "properties": {name: of[name] for name in FIELDS}, "additionalProperties": False}


@lru_cache(1)
def currencies() -> frozenset[str]:
    """The codes of ISO 4217. Raises `TinyslmError` without the extra `packs`."""
    try:
        from babel.numbers import list_currencies
    except ImportError:
        raise require_extra("packs", "The pack prices") from None
    return frozenset(list_currencies())


@lru_cache(1)
def _registry() -> Any:
    try:
        from pint import UnitRegistry
    except ImportError:
        raise require_extra("packs", "The pack prices") from None
    return UnitRegistry()


@lru_cache(64)
def _base(unit: str) -> Amount:
    one = _registry().Quantity(1.0, UNITS[unit]).to_base_units()
    return Amount(str(one.dimensionality), float(one.magnitude))


def size_of(fields: Mapping[str, Any]) -> Amount | None:
    """The content of the whole pack: `count` times `quantity` of `unit`; `None` where it is not given."""
    quantity, unit, count = fields.get("quantity"), fields.get("unit"), fields.get("count", 1)
    if not (_is_number(quantity) and isinstance(unit, str) and unit in UNITS and _is_number(count)) or not quantity:
        return None
    base = _base(unit)
    return Amount(base.dimension, base.value * quantity * count)


def unit_price_of(fields: Mapping[str, Any]) -> Amount | None:
    """The stated unit price, for each base unit of its dimension; `None` where it is not given."""
    price, per = fields.get("unit_price"), fields.get("per")
    found = _PER.fullmatch(per) if isinstance(per, str) else None
    if not isinstance(price, int | float) or found is None or not int(found[1] or 1):
        return None
    base = _base(found[2])
    return Amount(base.dimension, price / (base.value * int(found[1] or 1)))


def computed_unit_price(fields: Mapping[str, Any]) -> Amount | None:
    """The unit price that follows from price and size; `None` where either is not given."""
    price, size = fields.get("price"), size_of(fields)
    return Amount(size.dimension, price / size.value) if size and isinstance(price, int | float) else None


def price_per(fields: Mapping[str, Any], per: str) -> float | None:
    """The computed unit price for `per`, such as "100 g"; `None` where price or size is not given."""
    found, computed = _PER.fullmatch(per), computed_unit_price(fields)
    if found is None or computed is None or _base(found[2]).dimension != computed.dimension:
        return None
    return computed.value * _base(found[2]).value * int(found[1] or 1)


def unit_price_fits(fields: Mapping[str, Any]) -> bool:
    """Whether the stated unit price is that of price and size, up to rounding; also where there is nothing to say."""
    stated, computed = unit_price_of(fields), computed_unit_price(fields)
    if stated is None or computed is None or stated.dimension != computed.dimension:
        return True
    price = float(fields["unit_price"])
    rounding = (WHOLE if price.is_integer() else ROUNDED) * stated.value / price if price else ROUNDED
    return abs(stated.value - computed.value) <= max(CLOSE * computed.value, rounding)


def check_digit(digits: str) -> str:
    """The last digit of a GTIN (EAN, UPC) whose other ones are `digits`, by the rules of GS1."""
    total = sum(int(digit) * (1 if number % 2 else 3) for number, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def is_gtin(code: object) -> bool:
    """Whether a text is a GTIN of 8, 12, 13 or 14 digits with the right check digit."""
    digits = code if isinstance(code, str) and code.isascii() and code.isdecimal() else ""
    return len(digits) in (8, 12, 13, 14) and check_digit(digits[:-1]) == digits[-1]


def fields_of(answer: str) -> dict[str, Any] | None:
    """The JSON object in an answer; `None` without one."""
    try:
        value = parse_json(first_json(answer).encode("utf-8", "replace"))
    except JsonError:
        return None
    return value if isinstance(value, dict) else None


def answer_of(fields: Mapping[str, Any]) -> str:
    """The answer with these fields, in the order of `FIELDS`, without spaces, as a constraint has it too."""
    chosen = {name: fields[name] for name in FIELDS if name in fields}
    return json.dumps(chosen, ensure_ascii=False, separators=(",", ":"))


def wanted_of(example: Example) -> dict[str, Any]:
    """The right fields of a row. Raises `TinyslmError` for a row without them."""
    wanted = fields_of(str(example.get("answer", "")))
    if wanted is None:
        raise TinyslmError("An example's answer is not a JSON object.", "Correct the example.")
    return wanted


def grade(example: Example, answer: str) -> Grade:
    """The F1 of the fields: name, brand, price, currency, size, unit price, availability and GTIN.

    A name counts by the F1 of its words, everything else is right or wrong. A unit price that the page does not state
    is no mistake where it follows from price and size. Parts: "valid" (a JSON object), "equal" (everything is right),
    "price" (price and currency are), "codes" (the currency is one of ISO 4217, and the check digit of the GTIN is
    right), "consistent" (the unit price fits), and "refused", whether it says that there is no single product.
    """
    wanted, given = wanted_of(example), fields_of(answer)
    if given is None:
        return Grade(0.0, {"valid": 0.0, "equal": 0.0, "price": 0.0}, "not a JSON object")
    ours, theirs = dict(_compared(wanted)), dict(_compared(given))
    if "unit price" not in ours and "unit_price" in given and unit_price_fits({**wanted, **_stated(given)}):
        theirs.pop("unit price", None)
    credit = {name: _same(name, ours[name], theirs[name]) for name in ours.keys() & theirs.keys()}
    parts = len(ours) + len(theirs)
    score = 2 * sum(credit.values()) / parts if parts else 1.0
    paid = [name for name in ("price", "currency") if name in ours or name in theirs]
    known = given.get("currency", "EUR") in currencies() and ("gtin" not in given or is_gtin(given["gtin"]))
    wrong = sorted(name for name in ours.keys() | theirs.keys() if credit.get(name, 0.0) < 1)
    metrics = {
        "valid": 1.0,
        "equal": float(not wrong),
        "price": float(all(credit.get(name) == 1 for name in paid)),
        "codes": float(known),
        "consistent": float(unit_price_fits(given)),
        "refused": float(not given),
    }
    return Grade(min(score, 1.0), metrics, f"wrong: {', '.join(wrong)}" if wrong else "")


def _stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("unit_price", "per") if name in fields}


def _compared(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is compared of an answer: amounts in base units, texts as they are."""
    for name in ("name", "brand", "price", "currency", "availability", "gtin"):
        if name in fields:
            yield name, fields[name]
    if "quantity" in fields or "unit" in fields or "count" in fields:
        yield "size", size_of(fields)
    if "unit_price" in fields or "per" in fields:
        yield "unit price", unit_price_of(fields)
    for name in fields.keys() - set(FIELDS):
        yield name, fields[name]  # there are no others: wrong


def _same(name: str, ours: Any, theirs: Any) -> float:
    if ours is None or theirs is None or name not in _COMPARED:
        return 0.0
    return float(_COMPARED[name](ours, theirs))


def _words(text: object) -> list[str]:
    return re.findall(r"\w+", text.casefold()) if isinstance(text, str) else []


def _word_f1(ours: Any, theirs: Any) -> float:
    wanted, given = _words(ours), _words(theirs)
    left = list(given)
    for word in wanted:
        if word in left:
            left.remove(word)
    return 2 * (len(given) - len(left)) / (len(wanted) + len(given)) if wanted and given else 0.0


def _same_number(ours: Any, theirs: Any) -> bool:
    return _is_number(theirs) and abs(ours - theirs) <= 1e-6 * max(abs(ours), 1.0)


def _same_amount(ours: Amount, theirs: Amount, tolerance: float) -> bool:
    return ours.dimension == theirs.dimension and abs(ours.value - theirs.value) <= tolerance * ours.value


def _same_text(ours: Any, theirs: Any) -> bool:
    return bool(_words(ours)) and _words(ours) == _words(theirs)


_COMPARED = {
    "name": _word_f1,
    "brand": _same_text,
    "price": _same_number,
    "currency": _same_text,
    "size": lambda ours, theirs: _same_amount(ours, theirs, 1e-6),
    "unit price": lambda ours, theirs: _same_amount(ours, theirs, 1e-3),
    "availability": _same_text,
    "gtin": _same_text,
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
