"""The best that programs do without a model: `extruct` reads a page's metadata, `price-parser` its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tinyslm.core.errors import require_extra
from tinyslm.packs.pack import Answerer, Row, question_of
from tinyslm.packs.prices.fields import UNITS, answer_of, currencies, is_gtin

_SIZE = re.compile(
    rf"(?:(\d{{1,3}}) ?[x×] ?)?(\d+(?:[.,]\d+)?) ?({'|'.join(sorted(UNITS, key=len, reverse=True))})\b", re.IGNORECASE
)
_PRICE = re.compile(r"[^\n|]*(?:\d[.,]\d\d\b|[€$£¥₹])[^\n|]*")
_CODE = re.compile(r"\b\d{12,14}\b|\b\d{8}\b")
_OUT = re.compile(
    r"out of stock|sold out|unavailable|ausverkauft|nicht|agotado|épuisé|rupture|esaurito|slut|utsolgt", re.I
)
_SIGNS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "zł": "PLN", "Kč": "CZK", "Ft": "HUF"}


def baseline(_: Sequence[Row]) -> Answerer:
    """Answers rows; learns nothing from other ones. Raises `TinyslmError` without the extra `packs`."""
    try:
        import extruct  # noqa: F401
        import price_parser  # noqa: F401
    except ImportError:
        raise require_extra("packs", "The baseline of the pack prices") from None
    return lambda rows: [answer_of(_read(str(row.get("page", "")), question_of(row))) for row in rows]


def _read(page: str, text: str) -> dict[str, Any]:
    from price_parser import Price

    lines = text.splitlines()
    found: dict[str, Any] = {"name": lines[0]} if lines else {}
    priced = next((Price.fromstring(line[0]) for line in _PRICE.finditer(text)), None)
    if priced is not None and priced.amount is not None:
        found["price"] = float(priced.amount)
        code = _SIGNS.get(priced.currency or "", priced.currency)
        if code in currencies():
            found["currency"] = code
    if size := _SIZE.search(text):
        found |= {"quantity": float(size[2].replace(",", ".")), "unit": size[3].lower()}
        found |= {"count": int(size[1])} if size[1] else {}
    if code := next((one[0] for one in _CODE.finditer(text) if is_gtin(one[0])), None):
        found["gtin"] = code
    found["availability"] = "out_of_stock" if _OUT.search(text) else "in_stock"
    return found | (_metadata(page) if "<" in page else {})


def _metadata(page: str) -> dict[str, Any]:
    """What the page's JSON-LD and microdata say about its product."""
    import extruct

    data = extruct.extract(page, syntaxes=["json-ld", "microdata"], uniform=True, errors="ignore")
    products = [one for part in data.values() for one in part if one.get("@type") == "Product"]
    if len(products) != 1:
        return {}
    product, offer = products[0], products[0].get("offers") or {}
    offer = offer[0] if isinstance(offer, list) else offer
    brand = product.get("brand")
    stock = str(offer.get("availability", "")).rpartition("/")[2]
    named = {"InStock": "in_stock", "OutOfStock": "out_of_stock", "PreOrder": "preorder"}
    values = {
        "name": product.get("name"),
        "brand": brand.get("name") if isinstance(brand, Mapping) else brand,
        "price": _number(offer.get("price")),
        "currency": offer.get("priceCurrency"),
        "availability": named.get(stock),
        "gtin": product.get("gtin13"),
    }
    return {name: value for name, value in values.items() if value is not None}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
