"""What a model reads of a product page: a short text, whatever the page's form and length.

Of HTML it is what the page shows, without its navigation, with the labels of buttons, the values of metadata about the
product (meta tags, microdata, JSON-LD), and `~~` before what is struck out.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.data.html import decode_page
from tinyslm.data.page_text import attributes_of, shown_text

MOST_BYTES = 1 << 21
"""How much is read of a page, from its start."""
LONGEST_TEXT, LONGEST_LINE = 1_600, 240
"""Characters of a text, and of one line of it."""

_TAG = re.compile(r"<[a-z!/][^>]{0,5000}>", re.IGNORECASE)
_REWRITTEN = re.compile(r"<(/?)([a-z]+)\b([^>]{0,2000})>", re.IGNORECASE)
_JSON_LD = re.compile(r"<script[^>]*ld\+json[^>]*>(.{1,100000}?)</script>", re.IGNORECASE | re.DOTALL)
_CENTS = re.compile(r"(?<=\d)<sup[^>]{0,200}>(?=\d\d</sup>)", re.IGNORECASE)
"""Raised cents after a price without a decimal sign."""
_TITLE = re.compile(r"<title[^>]*>(.{1,500}?)</title>", re.IGNORECASE | re.DOTALL)
_ABOUT = re.compile(r"(?:product:|og:price:)|^(?:gtin\d*|price|pricecurrency|availability|brand|name)$", re.IGNORECASE)
_MATTERS = re.compile(r"[€$£¥₹₩₺₴₪฿₫₱]|\d[.,]\d\d\b|\b[A-Z]{3} ?\d|\d ?[A-Z]{3}\b|\b(?:EAN|GTIN|UPC)\b")
_OFFERED = {"price": "price", "priceCurrency": "currency", "availability": "availability"}


def read_page(path: Path) -> str:
    """The text of a page in a file, of which no more than `MOST_BYTES` are read. Raises `TinyslmError` for none."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES)
    text = page_text(_decoded(data))
    if not text:
        raise TinyslmError(f"{path.name} shows no text.", "Save the page as the browser shows it.")
    return text


def page_text(page: str) -> str:
    """The text of a page, HTML or not, with at most `LONGEST_TEXT` characters.

    Of a longer one, the first lines are kept, and those with numbers that may be prices.
    """
    if not _TAG.search(page):
        return _shortened(page.splitlines())
    title = _TITLE.search(page)
    shown = shown_text(_REWRITTEN.sub(_rewritten, _CENTS.sub(".", page))).splitlines()
    head = [title[1]] if title and not any(title[1].strip() in line for line in shown) else []
    return _shortened([*head, *shown, *_json_ld(page)])


def _decoded(data: bytes) -> str:
    """As the page declares it; else UTF-8, which may be cut off at the end; else windows-1252."""
    if (text := decode_page(data)) is not None:
        return text
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _rewritten(tag: re.Match[str]) -> str:
    """A tag as one that is shown."""
    end, name, attributes = tag[1], tag[2].lower(), tag[3]
    if name == "button":
        return f"<{end}div>"
    if end:
        return f"{tag[0]} " if name == "span" else tag[0]
    if name in ("s", "del", "strike") or "line-through" in attributes:
        return f"{tag[0]}~~"
    if name in ("meta", "link"):
        found = attributes_of(attributes)
        about = found.get("itemprop") or found.get("property") or ""
        value = found.get("content") or found.get("href", "").rpartition("/")[2]
        if _ABOUT.search(about) and value:
            return f"<div>{escape(about.rpartition(':')[2])}: {value}</div>"
    return tag[0]


def _json_ld(page: str) -> Iterator[str]:
    """What the page's JSON-LD says about the one product in it."""
    for block in _JSON_LD.finditer(page):
        try:
            value = json.loads(block[1])
        except (ValueError, RecursionError):
            continue
        items = value if isinstance(value, list) else value.get("@graph", [value]) if isinstance(value, dict) else []
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict) and item.get("@type") == "Product":
                yield from _product_lines(item)


def _product_lines(product: dict[str, Any]) -> Iterator[str]:
    brand, offers = product.get("brand"), product.get("offers")
    brand = brand.get("name") if isinstance(brand, dict) else brand
    offer = offers[0] if isinstance(offers, list) and len(offers) == 1 else offers
    offered = offer if isinstance(offer, dict) else {}
    found = {"name": product.get("name"), "brand": brand}
    found |= {said: offered.get(name) for name, said in _OFFERED.items()}
    found |= {"gtin": next((product[name] for name in product if str(name).startswith("gtin")), None)}
    for name, value in found.items():
        if isinstance(value, str | int | float):
            yield f"{name}: {str(value).rpartition('schema.org/')[2]}"


def _shortened(lines: list[str]) -> str:
    """The lines, without empty ones and repetitions; of too many, the ones that matter."""
    kept = list(dict.fromkeys(" ".join(line.split())[:LONGEST_LINE] for line in lines))
    kept = [line for line in kept if line]
    order = sorted(range(len(kept)), key=lambda at: (at > 3 and not _MATTERS.search(kept[at]), at))
    chosen, left = set[int](), LONGEST_TEXT
    for at in order:
        left -= len(kept[at]) + 1
        if left < 0:
            break
        chosen.add(at)
    return "\n".join(line for at, line in enumerate(kept) if at in chosen)
