"""What a model reads of a product page: a short text, whatever the page's form and length.

Of HTML it is what the page shows, without its navigation, with the labels of buttons, chosen variants with a price or
size, the values of metadata about the product (meta tags, microdata, JSON-LD), and `~~` before what is struck out. An
amount whose parts are elements of their own is one amount. Where the heading is in a header, or no price is left,
headers and side notes count too: some shops put the product there.
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
from tinyslm.data.charset import looks_binary
from tinyslm.data.html import HEAD, decode_page
from tinyslm.data.page_text import attributes_of, shown_text

MOST_BYTES = 1 << 21
"""How much is read of a page, from its start."""
LONGEST_TEXT, LONGEST_LINE = 1_600, 240
"""Characters of a text, and of one line of it."""

_TAG = re.compile(r"<[a-z!/][^>]{0,5000}>", re.IGNORECASE)
_REWRITTEN = re.compile(r"<(/?)([a-z]+)\b([^>]{0,2000})>", re.IGNORECASE)
_JSON_LD = re.compile(r"<script[^>]*ld\+json[^>]*>(.{1,100000}?)</script>", re.IGNORECASE | re.DOTALL)
_INLINE = r"(?:</?(?:span|sup|small|b|strong|i|em)\b[^>]{0,500}>){0,9}+"
_DIVIDED = re.compile(rf"(?<=\d)({_INLINE})([.,]?)({_INLINE})(?=\d\d(?!\d))", re.IGNORECASE)
"""An amount and its cents, in elements of their own."""
_CENTS = re.compile(r"<(?:sup|small)\b|(?<![a-z])(?:cents?|dec|decimals?|frac|fraction|minor)(?![a-z])", re.IGNORECASE)
_SELECT = re.compile(r"<select\b[^>]{0,2000}>(.{1,20000}?)</select>", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(r"<option\b([^>]{0,2000})>([^<]{1,500})", re.IGNORECASE)
_SIDE = re.compile(r"<(/?)(?:header|aside|noscript)\b[^>]{0,2000}>", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.{1,500}?)</title>", re.IGNORECASE | re.DOTALL)
_ABOUT = re.compile(r"(?:product:|og:price:)|^(?:gtin\d*|price|pricecurrency|availability|brand|name)$", re.IGNORECASE)
PRICE = re.compile(r"[€$£¥₹₩₺₴₪฿₫₱]|\d[.,]\d\d\b|\d ?(?:zł|Kč|kr|Ft|lei|[A-Z]{3})\b|\b[A-Z]{3} ?\d")
_SIZE = re.compile(r"\d ?(?:[mc]?l|k?g|oz|lb|[mc]?m)\b", re.IGNORECASE)
_MATTERS = re.compile(r"[€$£¥₹₩₺₴₪฿₫₱]|\d[.,]\d\d\b|\b[A-Z]{3} ?\d|\d ?[A-Z]{3}\b|\b(?:EAN|GTIN|UPC)\b")
_OFFERED = {"price": "price", "priceCurrency": "currency", "availability": "availability"}


def read_page(path: Path) -> str:
    """The text of a page in a file, of which no more than `MOST_BYTES` are read. Raises `TinyslmError` for none."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES)
    text = "" if looks_binary(data[:HEAD]) else page_text(_decoded(data))
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
    page = _SELECT.sub(_chosen, _DIVIDED.sub(_joined, page))
    shown = "" if _is_headed(page) else _shown(page)
    if not PRICE.search(shown):
        shown = _shown(_SIDE.sub(r"<\1div>", page))
    head = [title[1]] if title and title[1].strip() not in shown else []
    return _shortened([*head, *shown.splitlines(), *_json_ld(page)])


def _shown(page: str) -> str:
    return shown_text(_REWRITTEN.sub(_rewritten, page))


def _is_headed(page: str) -> bool:
    """Whether the page's heading is in a header."""
    return any("<h1" in part.partition("</header")[0] for part in page.lower().split("<header")[1:])


def _joined(cents: re.Match[str]) -> str:
    """The decimal sign between the two parts of an amount."""
    before, sign, after = cents.groups()
    return sign or ("." if _CENTS.search(before + after) else cents[0])


def _chosen(select: re.Match[str]) -> str:
    """The chosen variant, if it says a price or a size."""
    options = list(_OPTION.finditer(select[1]))
    chosen = next((one for one in options if "selected" in one[1].lower()), options[0] if options else None)
    return f"<div>{chosen[2]}</div>" if chosen and (PRICE.search(chosen[2]) or _SIZE.search(chosen[2])) else ""


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
        apart = name in ("span", "b", "strong", "small") and tag.string[tag.end() : tag.end() + 1] not in set(",.;:)/")
        return f"{tag[0]} " if apart else tag[0]
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
            if isinstance(item, dict) and item.get("@type") in ("Product", ["Product"]):
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
    """The lines, without empty ones and repetitions; of too many, the ones that matter, then those next to them."""
    kept = list(dict.fromkeys(" ".join(line.split())[:LONGEST_LINE] for line in lines))
    kept = [line for line in kept if line]
    matters = [at < 4 or bool(_MATTERS.search(line)) for at, line in enumerate(kept)]
    near = [any(matters[max(at - 2, 4) : at + 3]) for at in range(len(kept))]
    order = sorted(range(len(kept)), key=lambda at: (not matters[at], not near[at], at))
    chosen, left = set[int](), LONGEST_TEXT
    for at in order:
        left -= len(kept[at]) + 1
        if left < 0:
            break
        chosen.add(at)
    return "\n".join(line for at, line in enumerate(kept) if at in chosen)
