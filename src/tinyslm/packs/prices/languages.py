"""Words of shops in several languages, which `languages.toml` holds, and the countries they sell in."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Language:
    """How shops of a language write; each list holds alternatives.

    solid, liquid, counted, things: goods that are sold by weight, by volume, by number, and without an amount. kinds:
    variants that follow a name. piece: names of a piece. was, now: before the old and the new price. start: before the
    lowest of several prices. each: between a price and its unit. without_tax, with_tax: after a price. noise: what else
    stands on a page; `{}` is an amount of money that is not the price. none: pages of no product. more: the headline
    over other products.
    """

    solid: Sequence[str]
    liquid: Sequence[str]
    counted: Sequence[str]
    things: Sequence[str]
    kinds: Sequence[str]
    in_stock: Sequence[str]
    out_of_stock: Sequence[str]
    preorder: Sequence[str]
    brand: Sequence[str]
    piece: Sequence[str]
    was: Sequence[str]
    now: Sequence[str]
    start: Sequence[str]
    each: Sequence[str]
    without_tax: Sequence[str]
    with_tax: Sequence[str]
    noise: Sequence[str]
    none: Sequence[str]
    more: Sequence[str]


@lru_cache(1)
def languages() -> Mapping[str, Language]:
    """The languages by their codes."""
    with Path(__file__).with_name("languages.toml").open("rb") as file:
        return {code: Language(**words) for code, words in tomllib.load(file).items()}


@dataclass(frozen=True)
class Country:
    """locale: for `babel`. worth: of one euro in its currency. cents: whether prices have decimals. sign: of money, as
    shops write it, in addition to the form of the locale. imperial: whether contents may be in ounces and pounds."""

    locale: str
    currency: str
    worth: float
    signs: tuple[str, ...]
    cents: bool = True
    imperial: bool = False

    @property
    def language(self) -> str:
        """The code of its language, one of `languages()`."""
        return self.locale.partition("_")[0]


COUNTRIES: Sequence[Country] = (
    Country("de_DE", "EUR", 1, ("€", "EUR")),
    Country("de_AT", "EUR", 1, ("€",)),
    Country("de_CH", "CHF", 1, ("CHF", "Fr.")),
    Country("en_US", "USD", 1.1, ("$", "US$", "USD"), imperial=True),
    Country("en_GB", "GBP", 0.9, ("£", "GBP")),
    Country("en_IE", "EUR", 1, ("€",)),
    Country("en_CA", "CAD", 1.5, ("C$", "CA$", "CAD")),
    Country("en_AU", "AUD", 1.7, ("A$", "AU$", "AUD")),
    Country("en_NZ", "NZD", 1.8, ("NZ$", "NZD")),
    Country("en_IN", "INR", 90, ("₹", "Rs.", "INR")),
    Country("en_ZA", "ZAR", 20, ("R", "ZAR")),
    Country("en_SG", "SGD", 1.5, ("S$", "SGD")),
    Country("en_HK", "HKD", 8.5, ("HK$",)),
    Country("en_AE", "AED", 4, ("AED",)),
    Country("fr_FR", "EUR", 1, ("€", "EUR")),
    Country("fr_CH", "CHF", 1, ("CHF",)),
    Country("es_ES", "EUR", 1, ("€",)),
    Country("es_MX", "MXN", 20, ("MX$", "MXN")),
    Country("es_CO", "COP", 4500, ("COP",), cents=False),
    Country("es_AR", "ARS", 1400, ("AR$", "ARS")),
    Country("es_CL", "CLP", 1000, ("CLP",), cents=False),
    Country("it_IT", "EUR", 1, ("€",)),
    Country("nl_NL", "EUR", 1, ("€",)),
    Country("pt_PT", "EUR", 1, ("€",)),
    Country("pt_BR", "BRL", 6, ("R$",)),
    Country("pl_PL", "PLN", 4.3, ("zł", "PLN")),
    Country("sv_SE", "SEK", 11, ("kr", "SEK")),
    Country("da_DK", "DKK", 7.5, ("kr.", "DKK")),
    Country("nb_NO", "NOK", 11.5, ("kr", "NOK")),
    Country("fi_FI", "EUR", 1, ("€",)),
    Country("cs_CZ", "CZK", 25, ("Kč",)),
    Country("hu_HU", "HUF", 400, ("Ft",), cents=False),
    Country("ro_RO", "RON", 5, ("lei", "Lei", "RON")),
    Country("tr_TR", "TRY", 40, ("TL", "₺")),
    Country("uk_UA", "UAH", 45, ("₴", "грн")),
    Country("bg_BG", "BGN", 2, ("лв.",)),
    Country("el_GR", "EUR", 1, ("€",)),
    Country("ja_JP", "JPY", 160, ("円", "¥"), cents=False),
    Country("zh_CN", "CNY", 8, ("¥", "元")),
    Country("ko_KR", "KRW", 1500, ("원", "₩"), cents=False),
    Country("id_ID", "IDR", 17000, ("Rp",), cents=False),
)
