"""Invented products, and how a page of a shop writes them: the generator's pages.

Pages of the split "test" use other goods, brands, arrangements and separators than those of "train".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from random import Random
from typing import Any

from tinyslm.core.errors import require_extra
from tinyslm.packs.pack import Split
from tinyslm.packs.prices.fields import check_digit, price_per
from tinyslm.packs.prices.languages import COUNTRIES, Country, Language, languages
from tinyslm.packs.prices.pages import PRICE

Fields = dict[str, Any]

STARTS: Mapping[Split, str] = {
    "train": "Nor Al Bel Cor Dex Fjor Gra Hel Iva Jov Kes Lum Mir Pel Qua",
    "test": "Ost Riv Son Tar Ulm Vex Wil Xen Yor",
}
ENDS: Mapping[Split, str] = {
    "train": "vik tro lano dis aline land nit ion mar tra wick ora bert sana",
    "test": "esta ella feld vona mera quist bury ano",
}
BRANDS = {"train": ("{}", "{}", "{}", "{} & Co", "La {}", "{} Home"), "test": ("{}", "{}", "{} Pro", "Casa {}")}

HEADS: Mapping[Split, Mapping[str, Sequence[str]]] = {
    "train": {
        "bns": ("{b} {n}, {s}", "{b} {n} {s}", "{n} {b} {s}", "{n} {s}\n{B}: {b}", "{b} - {n} ({s})", "{n}, {b}, {s}",
                "{n}\n{b}\n{s}", "{n} | {s} | {b}", "{s} {b} {n}", "{n} {s} / {b}", "{n} {s} - {b}",
                "{B}: {b}\n{n} {s}"),
        "bn": ("{b} {n}", "{n} {b}", "{n}, {b}", "{n}\n{B}: {b}", "{b} - {n}", "{n} | {b}", "{n}\n{b}", "{n} / {b}"),
        "ns": ("{n} {s}", "{n}, {s}", "{n}\n{s}", "{s} {n}", "{n} ({s})"),
        "n": ("{n}",),
    },
    "test": {
        "bns": ("{b}: {n} {s}", "{n} ({b}) {s}", "{n} [{b}]\n{s}", "{n} // {s} // {b}", "{b}, {n} - {s}"),
        "bn": ("{b}: {n}", "{n} ({b})", "{n} // {b}", "{b}, {n}"),
        "ns": ("{n} - {s}", "{n} // {s}"),
        "n": ("{n}",),
    },
}  # fmt: skip
SEPARATORS: Mapping[Split, Sequence[str]] = {
    "train": ("\n", "\n", "\n", "\n", " | ", ", ", " - ", " / ", "  ", ". "),
    "test": ("\n", "\n", "\n", " • ", " // ", " — ", "; "),
}
REDUCED: Mapping[Split, Sequence[str]] = {
    "train": ("{p} {was} {o}", "{was} {o} {now} {p}", "~~{o} {p}", "{p} ~~{o}", "{was}: {o}\n{now}: {p}"),
    "test": ("{p} ({was} {o})", "{o} -> {p}", "{now} {p} / {was} {o}", "{was} {o}, {p}"),
}
PLAIN: Mapping[Split, Sequence[str]] = {"train": ("{p}", "{p}", "{p}", "{now} {p}"), "test": ("{p}", "{now}: {p}")}
TAXED: Mapping[Split, Sequence[str]] = {
    "train": ("{net} {without}\n{p} {with}", "{p} {with}", "{p} {with} ({net} {without})"),
    "test": ("{without}: {net} / {with}: {p}", "{p} ({with})"),
}
OPEN: Mapping[Split, Sequence[str]] = {"train": ("{start} {p}", "{p} – {h}"), "test": ("{start}: {p}", "{p} - {h}")}
PER: Mapping[Split, Sequence[str]] = {
    "train": ("{u}{each}{per}", "({u} {each} {per})", "{per} = {u}", "{u} {each} {per}"),
    "test": ("[{u} {each} {per}]", "{per}: {u}"),
}
PACKED: Mapping[Split, Sequence[str]] = {
    "train": ("{c} x {q}{u}", "{c}x{q} {u}", "{q} {u} x {c}", "{c} × {q} {u}"),
    "test": ("{c} x {q} {u}", "{c}×{q}{u}", "{q}{u} (x{c})"),
}
CODES = {"train": ("EAN {}", "EAN: {}", "GTIN {}"), "test": ("GTIN: {}", "EAN {}", "Barcode {}")}

SIZES: Mapping[str, Sequence[tuple[str, Sequence[float]]]] = {
    "solid": (("g", (100, 125, 150, 175, 200, 250, 300, 400, 500, 750, 800, 1000)), ("kg", (1, 1.5, 2, 2.5, 5, 10))),
    "liquid": (("ml", (200, 250, 300, 330, 500, 750, 900)), ("l", (1, 1.5, 2, 2.5, 5)), ("cl", (33, 50, 70, 75))),
    "counted": (("piece", (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 30, 40, 48, 60, 100, 120, 250)),),
    "imperial solid": (("oz", (8, 10, 12, 16, 24, 32)), ("lb", (1, 2, 3, 5, 10, 20))),
    "imperial liquid": (("fl oz", (12, 16, 20, 32, 64)), ("gal", (1, 2.5)), ("pt", (1, 2))),
}
PER_UNITS = {
    **{"g": ("kg", "100 g"), "kg": ("kg", "100 g"), "oz": ("oz", "lb"), "lb": ("lb", "oz")},
    **{"ml": ("l", "100 ml"), "l": ("l", "100 ml"), "cl": ("l", "100 ml"), "fl oz": ("fl oz",), "gal": ("gal",)},
    **{"pt": ("fl oz",), "piece": ("piece",)},
}
SPELLED = {
    **{"g": ("g", "g", "gr"), "kg": ("kg", "kg", "KG"), "ml": ("ml", "ml", "mL"), "l": ("l", "L", "lt")},
    **{"oz": ("oz", "oz."), "lb": ("lb", "lbs"), "fl oz": ("fl oz", "fl. oz"), "gal": ("gal", "gallon")},
}
CYRILLIC = {"g": ("г",), "kg": ("кг",), "ml": ("мл",), "l": ("л",)}
DASHED = ("de", "nl", "da", "nb", "sv")
"""Languages in which whole prices end with a dash."""


def held_out(items: Sequence[str], split: Split) -> list[str]:
    """Every third item is for the split "test"."""
    return [item for at, item in enumerate(items) if (at % 3 == 2) == (split == "test")]


@dataclass(frozen=True)
class Shop:
    """A country, and how its shops write money: `form` is one of `money`'s."""

    country: Country
    words: Language
    form: int
    grouped: bool
    split: Split

    @classmethod
    def invented(cls, random: Random, split: Split) -> Shop:
        """A shop somewhere."""
        country = random.choice(COUNTRIES)
        form = random.choice((0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8))
        return cls(country, languages()[country.language], form, random.random() < 0.7, split)

    def number(self, value: float) -> str:
        """An amount as the country writes it, without useless decimals."""
        return _decimal(value, "0.###", self.country.locale)

    def money(self, amount: float, form: int | None = None) -> str:
        """An amount of money. The form 0 is that of the locale, 8 has no currency."""
        country, form = self.country, self.form if form is None else form
        whole = amount == int(amount) and self.grouped
        if form == 7 and amount == int(amount) and country.language in DASHED:
            return f"{_decimal(amount, '#,##0', country.locale)},-"
        pattern = "#,##0" if self.grouped else "0"
        pattern += "" if not country.cents or (whole and form in (1, 2)) else ".00"
        text = _decimal(amount, pattern, country.locale)
        sign = country.signs[int(self.grouped) % len(country.signs)]
        forms = ("{1} {0}", "{1}{0}", "{0} {1}", "{0}{1}", "{1} {0}", "{0} {2}", "{2} {0}", "{0} {1}", "{0}")
        if form == 0 and country.signs[0] not in ("C$", "A$", "NZ$", "MX$", "AR$", "S$", "HK$", "COP", "CLP"):
            return _currency(amount, country)
        return forms[form].format(text, sign, country.currency)

    def unit(self, random: Random, unit: str) -> str:
        """A unit as the shop spells it."""
        if unit == "piece":
            return random.choice(self.words.piece)
        if self.country.language in ("uk", "bg") and unit in CYRILLIC:
            return CYRILLIC[unit][0]
        return random.choice(SPELLED.get(unit, (unit,)))

    def per(self, random: Random, per: str) -> str:
        """What a unit price is for, as the shop spells it."""
        number, _, unit = per.rpartition(" ") if per[0].isdigit() else ("", "", per)
        return f"{number} {self.unit(random, unit)}".strip()

    def price(self, random: Random, low: float = 0.8, high: float = 60) -> float:
        """A price as shops choose them."""
        value = low * (high / low) ** random.random() * self.country.worth
        if not self.country.cents:
            step = 10 ** max(0, len(str(int(value))) - 2 - random.randint(0, 1))
            return float(max(step, round(value / step) * step))
        ends = (0.99, 0.49, 0.95, 0.0, 0.5, random.randint(1, 99) / 100)
        return round(max(int(value) + random.choice(ends), 0.29), 2)


def product(random: Random, shop: Shop) -> Fields:
    """The fields of an invented product, except for its unit price."""
    kind = random.choice(("solid", "solid", "liquid", "liquid", "counted", "things"))
    name = random.choice(held_out(getattr(shop.words, kind), shop.split))
    if random.random() < 0.6:
        name = f"{name} {random.choice(shop.words.kinds)}"
    if kind == "things" and random.random() < 0.4:
        name = f"{name} {random.choice('ABDKLMTX')}{random.choice(('', '-'))}{random.randint(10, 990)}"
    name = random.choice((name, name, name[0].upper() + name[1:], name.title(), name.upper()))
    fields: Fields = {"name": name}
    if random.random() < 0.92:
        brand = random.choice(STARTS[shop.split].split()) + random.choice(ENDS[shop.split].split())
        brand = random.choice(BRANDS[shop.split]).format(brand)
        fields["brand"] = brand.upper() if random.random() < 0.2 else brand
    fields["price"] = shop.price(random, *((8, 900) if kind == "things" else (0.8, 60)))
    if shop.form != 8:
        fields["currency"] = shop.country.currency
    if kind != "things":
        imperial = "imperial " if shop.country.imperial and kind != "counted" and random.random() < 0.7 else ""
        unit, quantities = random.choice(SIZES[imperial + kind])
        fields |= {"quantity": random.choice(quantities), "unit": unit}
        if random.random() < 0.2:
            fields["count"] = random.choice((2, 3, 4, 6, 8, 10, 12, 24))
    if random.random() < 0.8:
        fields["availability"] = random.choice(("in_stock", "in_stock", "out_of_stock", "out_of_stock", "preorder"))
    if random.random() < 0.15:
        digits = f"{random.randint(10**11, 10**12 - 1)}"
        fields["gtin"] = digits + check_digit(digits)
    return fields


def with_unit_price(fields: Mapping[str, Any], shop: Shop, per: str) -> Fields:
    """The fields with the unit price for `per`, if it can be written."""
    others = {name: value for name, value in fields.items() if name not in ("unit_price", "per")}
    computed = price_per(others, per) if per else None
    rounded = round(computed, 2 if shop.country.cents else 0) if computed is not None else 0
    return {**others, "unit_price": rounded, "per": per} if rounded else others


def per_of(random: Random, fields: Mapping[str, Any]) -> str:
    """What a page states the unit price for; "" if it does not."""
    units = PER_UNITS.get(str(fields.get("unit")), ())
    return random.choice(units) if units and random.random() < 0.6 else ""


@dataclass(frozen=True)
class Page:
    """Where the parts of a page stand; the same for each version of it. seed: of what else is chosen."""

    shop: Shop
    html: bool
    separator: str
    seed: int

    @classmethod
    def invented(cls, random: Random, shop: Shop) -> Page:
        """A page of a shop."""
        separator = random.choice(SEPARATORS[shop.split])
        return cls(shop, random.random() < 0.35, separator, random.getrandbits(32))

    def show(self, fields: Mapping[str, Any]) -> str:
        """The page, with these fields."""
        random, shop = Random(self.seed), self.shop
        head = self._head(random, fields)
        parts = [self._price(random, fields), self._unit_price(random, fields)]
        stock = random.choice(getattr(shop.words, fields["availability"])) if "availability" in fields else ""
        parts += [stock[:1].upper() + stock[1:] if random.random() < 0.5 else stock]
        parts += [random.choice(CODES[shop.split]).format(fields["gtin"]) if "gtin" in fields else ""]
        parts += noise(random, shop, random.choice((0, 0, 1, 1, 2, 3)))
        if random.random() < 0.6:
            random.shuffle(parts)
        lines = [head, *filter(None, parts)]
        if self.separator == "\n" and random.random() < 0.2:
            lines += [random.choice(shop.words.more), *others(random, shop, random.randint(1, 3))]
        return as_html(random, lines) if self.html else self.separator.join(lines)

    def _head(self, random: Random, fields: Mapping[str, Any]) -> str:
        shop, size = self.shop, self._size(random, fields)
        present = f"{'b' if 'brand' in fields else ''}n{'s' if size else ''}"
        form = random.choice(HEADS[shop.split][present])
        return form.format(b=fields.get("brand"), n=fields["name"], s=size, B=random.choice(shop.words.brand))

    def _size(self, random: Random, fields: Mapping[str, Any]) -> str:
        if "quantity" not in fields:
            return ""
        shop = self.shop
        quantity, unit = shop.number(fields["quantity"]), shop.unit(random, fields["unit"])
        if "count" in fields:
            return random.choice(PACKED[shop.split]).format(c=fields["count"], q=quantity, u=unit)
        return quantity + random.choice(("", " ", " ")) + unit

    def _price(self, random: Random, fields: Mapping[str, Any]) -> str:
        shop, split, price = self.shop, self.shop.split, fields["price"]
        forms = random.choices((PLAIN, REDUCED, OPEN, TAXED), (55, 30, 7, 8))[0][split]
        cents = 2 if shop.country.cents else 0
        return random.choice(forms).format(
            p=shop.money(price),
            o=shop.money(round(price * random.choice((1.1, 1.25, 1.4, 1.6)), cents)),
            h=shop.money(round(price * random.choice((1.2, 1.5, 2)), cents)),
            net=shop.money(round(price / random.choice((1.19, 1.2, 1.07, 1.25)), cents)),
            **{name: random.choice(getattr(shop.words, name)) for name in ("was", "now", "start")},
            **{"with": random.choice(shop.words.with_tax), "without": random.choice(shop.words.without_tax)},
        )

    def _unit_price(self, random: Random, fields: Mapping[str, Any]) -> str:
        form, each = random.choice(PER[self.shop.split]), random.choice(self.shop.words.each)
        if "unit_price" not in fields:
            return ""
        per, money = self.shop.per(random, fields["per"]), self.shop.money(fields["unit_price"])
        return form.format(u=money, each=each if each == "/" else f" {each} ", per=per).replace("  ", " ")


def noise(random: Random, shop: Shop, count: int) -> list[str]:
    """Other lines of a page, with amounts of money that are not its price."""
    lines = random.sample(list(shop.words.noise), min(count, len(shop.words.noise)))
    return [line.format(shop.money(shop.price(random))) for line in lines]


def others(random: Random, shop: Shop, count: int) -> list[str]:
    """Lines with other products."""
    made = [product(random, shop) for _ in range(count)]
    return [f"{one['name']} {shop.money(one['price'])}" for one in made]


def no_product(random: Random, shop: Shop) -> str:
    """A page of no product, or of several."""
    priced = replace(shop, form=0)
    if random.random() < 0.4:
        lines = [random.choice(shop.words.more), *others(random, priced, random.randint(3, 6))]
    else:
        lines = [random.choice(held_out(shop.words.none, shop.split)), *noise(random, priced, random.randint(0, 2))]
    return as_html(random, lines) if random.random() < 0.4 else "\n".join(lines)


def as_html(random: Random, lines: Sequence[str]) -> str:
    """The lines as elements of a page in one of `LAYOUTS`, those of the first part as its title too."""
    layout = random.choice(list(LAYOUTS))
    first, *rows = [escape(part) for line in lines for part in line.split("\n")]
    title = f"<title>{first}</title>" if random.random() < 0.5 else ""
    return f"<html><head>{title}</head><body><nav>Shop</nav>{LAYOUTS[layout](first, rows)}</body></html>"


def _elements(tag: str, rows: Sequence[str]) -> str:
    return "".join(f"<{tag}>{row}</{tag}>" for row in rows)


def _box(first: str, rows: Sequence[str]) -> str:
    """All but the heading in a side note, which counts if there is no price elsewhere."""
    box = "div" if PRICE.search(first) else "aside"
    return f"<main><h1>{first}</h1></main><{box}>{_elements('div', rows)}</{box}>"


def _table(first: str, rows: Sequence[str]) -> str:
    """Labels in cells of their own."""
    cells = [re.sub(r"^([^:<]{1,20}:) ", r"<th>\1</th><td>", row) for row in rows]
    whole = "".join(f"<tr>{cell}</td></tr>" if "<th>" in cell else f"<tr><td>{cell}</td></tr>" for cell in cells)
    return f"<h1>{first}</h1><table>{whole}</table>"


def _divided(first: str, rows: Sequence[str]) -> str:
    """Cents in elements of their own."""
    parted = [re.sub(r"(?<=\d)([.,]\d\d)(?!\d)", r'<span class="cents">\1</span>', row) for row in rows]
    return f"<h1>{first}</h1>{_elements('p', parted)}"


LAYOUTS: Mapping[str, Callable[[str, Sequence[str]], str]] = {
    "blocks": lambda first, rows: f"<h1>{first}</h1>{_elements('div', rows)}",
    "paragraphs": lambda first, rows: f"<h1>{first}</h1>{_elements('p', rows)}",
    "list": lambda first, rows: f"<h1>{first}</h1><ul>{_elements('li', rows)}</ul>",
    "box": _box,
    "header": lambda first, rows: f"<header><h1>{first}</h1></header>{_elements('div', rows)}<footer>Shop</footer>",
    "table": _table,
    "divided": _divided,
}
"""Pages without data for programs: how the first line and the others, already escaped, are written."""


def _decimal(value: float, pattern: str, locale: str) -> str:
    try:
        from babel.numbers import format_decimal
    except ImportError:
        raise require_extra("packs", "The pack prices") from None
    return format_decimal(value, format=pattern, locale=locale)


def _currency(amount: float, country: Country) -> str:
    from babel.numbers import format_currency

    return format_currency(amount, country.currency, locale=country.locale)
