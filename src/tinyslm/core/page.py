"""Build a self-contained HTML page: no requests, all text escaped; for light, dark and narrow screens."""

import html
import re
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from tinyslm.core.printable import printable


class Block(Protocol):
    """A piece of a section. Its fields are plain text; `html` escapes them."""

    def html(self) -> str:
        """The piece as an HTML element."""


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    heading: str
    blocks: Sequence[Block]

    def html(self) -> str:
        return (
            f"<section>\n<h2>{escaped(self.heading)}</h2>\n{''.join(block.html() for block in self.blocks)}</section>\n"
        )


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of text."""

    text: str

    def html(self) -> str:
        return f"<p>{escaped(self.text)}</p>\n"


@dataclass(frozen=True)
class KeyFigures:
    """The most important figures, in large type: (name, value)."""

    figures: Sequence[tuple[str, str]]

    def html(self) -> str:
        items = (f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in self.figures)
        return f'<dl class="figures">{"".join(items)}</dl>\n'


@dataclass(frozen=True)
class Table:
    """Rows of equally many cells, the first of which names the row. Columns of numbers are aligned to the right."""

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    caption: str = ""

    def html(self) -> str:
        caption = f"<caption>{escaped(self.caption)}</caption>" if self.caption else ""
        columns = list(zip(*self.rows, strict=True))[1:]
        classes = ["", *(' class="number"' if all(map(_is_number, column)) else "" for column in columns)]
        head = "".join(
            f'<th scope="col"{kind}>{escaped(cell)}</th>' for kind, cell in zip(classes, self.header, strict=False)
        )
        body = "".join(_row(row, classes) for row in self.rows)
        table = f"<table>{caption}{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
        return f'<div class="scroll">{table}</div>\n'


@dataclass(frozen=True)
class SideBySide:
    """Small blocks side by side where there is room."""

    blocks: Sequence[Block]

    def html(self) -> str:
        return f'<div class="columns">{"".join(block.html() for block in self.blocks)}</div>\n'


@dataclass(frozen=True)
class Bars:
    """A bar chart of positive values: (name, value, value as text). The first bar is highlighted."""

    rows: Sequence[tuple[str, float, str]]

    def html(self) -> str:
        longest = max((value for _, value, _ in self.rows), default=0.0) or 1.0
        items = (
            f'<tr><th scope="row">{escaped(name)}</th><td class="number">{escaped(text)}</td>'
            f'<td class="bar"><i style="width:{100 * max(0.0, value) / longest:.1f}%"></i></td></tr>'
            for name, value, text in self.rows
        )
        return f'<table class="bars"><tbody>{"".join(items)}</tbody></table>\n'


@dataclass(frozen=True)
class Figures:
    """Charts side by side where there is room: (svg, description of what it shows). The SVG is trusted, not escaped."""

    charts: Sequence[tuple[str, str]]

    def html(self) -> str:
        items = (
            f'<figure role="img" aria-label="{escaped(description)}">{_unique_ids(svg)}</figure>'
            for svg, description in self.charts
        )
        return f'<div class="charts">{"".join(items)}</div>\n'


@dataclass(frozen=True)
class Sample:
    """Text that a model generated, unchanged, below a label."""

    label: str
    text: str
    prompt: str = ""
    """The model's input, shown in another colour before the text."""

    def html(self) -> str:
        prompt = f"<b>{escaped(self.prompt)}</b>" if self.prompt else ""
        label = f"<figcaption>{escaped(self.label)}</figcaption>"
        return f'<figure class="sample">{label}<pre dir="auto">{prompt}{escaped(self.text)}</pre></figure>\n'


@dataclass(frozen=True)
class Folded:
    """Blocks that are hidden until the reader opens them."""

    summary: str
    blocks: Sequence[Block]

    def html(self) -> str:
        inside = "".join(block.html() for block in self.blocks)
        return f"<details><summary>{escaped(self.summary)}</summary>\n{inside}</details>\n"


def page(title: str, subtitle: str, blocks: Sequence[Block], *, style: str = "", script: str = "") -> str:
    """The whole HTML document: a header, then the blocks (sections, as a rule).

    style, script: trusted CSS and JavaScript of this kind of page. Of scripts, only this one can run.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    if script:
        policy += f"; script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    code = f"<script>{script}</script>\n" if script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<style>{STYLE}{style}</style>
{code}</head>
<body>
<header>
<h1>{escaped(title)}</h1>
<p>{escaped(subtitle)}</p>
</header>
<main>
{"".join(block.html() for block in blocks)}</main>
</body>
</html>
"""


def escaped(text: str) -> str:
    """Escape plain text for HTML; control characters are spelled out."""
    return html.escape(printable(text))


def _row(cells: Sequence[str], classes: Sequence[str]) -> str:
    first, *rest = cells
    others = "".join(f"<td{kind}>{escaped(cell)}</td>" for kind, cell in zip(classes[1:], rest, strict=True))
    return f'<tr><th scope="row">{escaped(first)}</th>{others}</tr>'


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?( ?[%a-zA-Z]{1,2})?|–?", cell) is not None


def _unique_ids(svg: str) -> str:
    """Add a prefix to the ids of an SVG: the charts of a page must not share ids."""
    prefix = f"c{zlib.crc32(svg.encode()):08x}"
    svg = re.sub(r'\bid="([\w-]+)"', rf'id="{prefix}-\1"', svg)
    return re.sub(r"url\(#([\w-]+)\)", rf"url(#{prefix}-\1)", svg)


STYLE = """
:root {
  --paper: #fbfbfa; --raised: #ffffff; --ink: #1f2328; --faint: #646b74; --grid: #e4e6e9; --line: #dfe1e5;
  --accent: #2f6fc4; --sample: #f4f5f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1b1f24; --ink: #e3e6ea; --faint: #98a1ab; --grid: #2c3238; --line: #2c3238;
    --accent: #7ab0f5; --sample: #101316;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
h1 { margin: 0; font-size: clamp(1.6rem, 4vw, 2.25rem); line-height: 1.2; letter-spacing: -0.02em; }
h1, p, td { overflow-wrap: anywhere; }
h2 { margin: 3rem 0 1rem; font-size: 1.25rem; line-height: 1.3; letter-spacing: -0.01em; }
header p { margin: 0.4rem 0 0; color: var(--faint); }
p { max-width: 42rem; margin: 0.75rem 0; }
.figures {
  display: flex; flex-wrap: wrap; gap: 1px; margin: 2rem 0 0; overflow: hidden;
  background: var(--line); border: 1px solid var(--line); border-radius: 0.6rem;
}
.figures div {
  flex: 1 1 7.2rem; display: flex; flex-direction: column; justify-content: space-between;
  padding: 0.8rem 1rem; background: var(--raised);
}
dt { color: var(--faint); font-size: 0.85rem; line-height: 1.35; }
dd { margin: 0.25rem 0 0; font-size: 1.4rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
dd { white-space: nowrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.25rem; }
figure { margin: 0; }
.charts figure { max-width: 31rem; }
.charts figure { padding: 0.75rem; background: var(--raised); border: 1px solid var(--line); border-radius: 0.6rem; }
.charts svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 0.4rem; text-align: left; font-weight: 600; max-width: calc(100vw - 2.5rem); }
th, td { padding: 0.4rem 1.75rem 0.4rem 0; border-bottom: 1px solid var(--line); text-align: left; }
th, td { vertical-align: top; }
td { min-width: 5rem; }
th { font-weight: 400; color: var(--faint); }
tbody th { max-width: min(20rem, 45vw); overflow-wrap: break-word; }
thead th { font-size: 0.85rem; }
.number { text-align: right; white-space: nowrap; }
.columns { display: flex; flex-wrap: wrap; gap: 0.5rem 3.5rem; align-items: flex-start; }
.columns th, .columns td { padding-right: 1rem; }
.bars { width: 100%; max-width: 42rem; }
.bars th { min-width: 7rem; }
.bars td.number { font-weight: 600; }
.bar { width: 100%; vertical-align: middle; padding-right: 0; }
.bar i { display: block; height: 0.7rem; border-radius: 0.2rem; background: var(--faint); opacity: 0.45; }
tr:first-child .bar i { background: var(--accent); opacity: 1; }
.sample { margin: 1rem 0; }
.columns > .sample { flex: 1 1 17rem; min-width: 0; margin: 0 0 1rem; }
figcaption { color: var(--faint); font-size: 0.85rem; margin-bottom: 0.3rem; }
pre {
  margin: 0; padding: 0.9rem 1.1rem; background: var(--sample); border: 1px solid var(--line); border-radius: 0.6rem;
  font: 0.86rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4; max-height: 24rem; overflow-y: auto;
}
pre b { color: var(--accent); font-weight: 600; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 36rem) {
  th, td { padding-right: 0.9rem; }
  td { min-width: 5.5rem; }
  td.number { min-width: 3.2rem; }
}
@media print { body { max-width: none; padding: 0; } pre { max-height: none; } }
"""
