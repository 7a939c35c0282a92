"""The demo of the pack: a page in, its fields out, with a unit price that is computed and checked."""

from __future__ import annotations

from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_json
from tinyslm.packs.pack import Answerer, Demonstration
from tinyslm.packs.prices.fields import (
    FIELDS,
    computed_unit_price,
    fields_of,
    is_gtin,
    price_per,
    size_of,
    unit_price_fits,
)
from tinyslm.packs.prices.pages import read_page
from tinyslm.packs.prices.skills import row_of

USUAL = ("kg", "l", "m", "m2", "piece")
"""What unit prices are computed for."""


def demo(file: Path, request: str, answer: Answerer, out: Path | None) -> Demonstration:
    """The fields of the page in `file`, and what computing says about them; see `Demo`."""
    if request:
        raise TinyslmError("The demo of prices takes no request.", "Give the file of a page only.")
    try:
        text = read_page(file)
    except OSError as error:
        raise TinyslmError(f"{file} could not be read: {error.strerror}.", "Give the file of a page.") from None
    (answered,) = answer([{"skill": "fields", **row_of(text, {})}])
    found = fields_of(answered)
    if found is None:
        return Demonstration([f"The answer is not a JSON object: {answered[:200]}"], {"fields": None})
    lines = [f"{name + ':':14}{found[name]}" for name in FIELDS if name in found] or ["There is no single product."]
    lines += [f"! {remark}" for remark in remarks(found)]
    if computed_unit_price(found):
        per = next(one for one in USUAL if price_per(found, one) is not None)
        lines.append(f"{'computed:':14}{price_per(found, per):.2f} per {per}")
    if out is not None:
        write_json(out, found)
    return Demonstration(lines, {"fields": found, "remarks": remarks(found)}, out)


def remarks(fields: dict[str, object]) -> list[str]:
    """What does not fit together in an answer."""
    said = []
    if not unit_price_fits(fields):
        said.append("The unit price is not that of the price and the size.")
    if "gtin" in fields and not is_gtin(fields["gtin"]):
        said.append("The check digit of the GTIN is wrong.")
    if "quantity" in fields and size_of(fields) is None:
        said.append("The quantity has no unit.")
    return said
