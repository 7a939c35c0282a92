"""Rows of published sets with product texts and their fields, which several packs import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FIELDS = ("title", "category", "brand", "manufacturer", "modelno", "price")
"""The fields of such rows, of which each has a title and some of the others."""
_LINE = re.compile(r"^([a-z_]{2,20}):[ \t]*(.+)$", re.MULTILINE)


def product_of(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The product text and its fields; `None` for other rows.

    row: has an "input", and an "output" of lines such as `title: red lamp` and `price: 5.99`. The price is a number.
    """
    text, output = row.get("input"), row.get("output")
    if not isinstance(text, str) or not isinstance(output, str) or not text.strip():
        return None
    found = dict(_LINE.findall(output))
    if "title" not in found or not set(found) <= set(FIELDS) or len(found) != len(output.strip().splitlines()):
        return None
    fields: dict[str, Any] = {name: value.strip() for name, value in found.items()}
    if "price" in fields:
        try:
            fields["price"] = float(fields["price"].replace(",", "").lstrip("$"))
        except ValueError:
            return None
    return text.strip(), fields
