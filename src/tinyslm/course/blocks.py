"""Blocks of the course's pages: widgets, formulas, links."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinyslm.core.page import escaped

DIGITS = 6
"""Significant digits of the numbers on a page."""


@dataclass(frozen=True)
class Widget:
    """A part that the reader can change: `name` is that of a function in a script, which gets `data`.

    label: what a screen reader calls it.
    """

    name: str
    data: Any
    label: str

    def html(self) -> str:
        data = json.dumps(rounded(self.data), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        data = data.replace("<", "\\u003c")  # nothing in it can end the element
        return (
            f'<div class="widget" role="group" data-widget="{escaped(self.name)}" aria-label="{escaped(self.label)}">'
            f'<script type="application/json">{data}</script>'
            "<noscript>This part needs JavaScript.</noscript></div>\n"
        )


@dataclass(frozen=True)
class Formula:
    """Lines of a formula: (what is computed, what the symbols mean here, with shapes)."""

    lines: Sequence[tuple[str, str]]

    def html(self) -> str:
        rows = (f"<dt>{escaped(formula)}</dt><dd>{escaped(meaning)}</dd>" for formula, meaning in self.lines)
        return f'<dl class="formula">{"".join(rows)}</dl>\n'


@dataclass(frozen=True)
class Links:
    """Links to other pages of the course: (file, text). label: what a screen reader calls them."""

    links: Sequence[tuple[str, str]]
    label: str

    def html(self) -> str:
        items = (f'<li><a href="{escaped(file)}">{escaped(text)}</a></li>' for file, text in self.links)
        return f'<nav aria-label="{escaped(self.label)}"><ol>{"".join(items)}</ol></nav>\n'


@dataclass(frozen=True)
class Contents:
    """A numbered list of pages: (file, title, a sentence about it)."""

    pages: Sequence[tuple[str, str, str]]
    label: str

    def html(self) -> str:
        items = (
            f'<li><a href="{escaped(file)}">{escaped(title)}</a><p>{escaped(about)}</p></li>'
            for file, title, about in self.pages
        )
        return f'<nav class="contents" aria-label="{escaped(self.label)}"><ol>{"".join(items)}</ol></nav>\n'


def rounded(value: Any) -> Any:
    """The same lists and dictionaries with numbers of `DIGITS` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return value
