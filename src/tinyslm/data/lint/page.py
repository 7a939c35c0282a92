"""Show the findings of the checks and the tokens of some examples, in the terminal and as an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from tinyslm.core.page import Block, Folded, KeyFigures, Paragraph, Section, Table, escaped, page
from tinyslm.data.lint.check import SEVERITIES, Finding, Report
from tinyslm.tokenizer.shown import Token, face, show_token

ON_PAGE = 12
"""Examples on the page."""
MOST_TOKENS = 600
"""Maximum number of tokens to show of an example."""

Learned = tuple[Token, bool]
"""A token, and whether it is learned."""


def shown_examples(report: Report, count: int) -> list[tuple[str, list[Learned]]]:
    """Location and tokens of some examples, spread evenly over all."""
    encoding = report.examples.encoding
    if encoding is None or not encoding.examples or count <= 0:
        return []
    rows = list(encoding.examples)
    chosen = [rows[number * len(rows) // min(count, len(rows))] for number in range(min(count, len(rows)))]
    found = []
    for row in chosen:
        for example in encoding.examples[row]:
            tokens = [show_token(encoding.tokenizer, token) for token in example.ids.tolist()]
            place = report.examples.conversations[row].place
            found.append((place, list(zip(tokens, example.learned.tolist(), strict=True))))
    return found


def styled(tokens: Sequence[Learned]) -> list[tuple[str, str]]:
    """Tokens as parts for `say_styled`: learned ones are strong, the others faint."""
    parts = []
    for learned, group in groupby(tokens[:MOST_TOKENS], key=lambda one: one[1]):
        text = "".join(_written(token) for token, _ in group)
        parts.append((text, "strong" if learned else "faint"))
    if parts:
        parts[-1] = (parts[-1][0].removesuffix("\n"), parts[-1][1])
    more = len(tokens) - MOST_TOKENS
    return [*parts, *([(f" … and {more:,} more tokens", "")] if more > 0 else [])]


def _written(token: Token) -> str:
    """The text of a token with visible line ends."""
    return token.text.replace("\n", "↵\n") if token.kind == "text" else face(token)


def lint_page(report: Report, name: str) -> str:
    """The HTML page: the findings by severity, and examples with learned tokens highlighted."""
    counts = [(f"{severity}s", str(len(report.of(severity)))) for severity in SEVERITIES]
    figures = KeyFigures([("rows", f"{report.rows:,}"), *counts, *_token_figures(report)])
    blocks: list[Block] = [Style(), figures]
    if not report.findings:
        blocks.append(Section("Findings", (Paragraph("No check found anything."),)))
    blocks.extend(
        Section(f"{severity.capitalize()}s", [Found(finding) for finding in found])
        for severity in SEVERITIES
        if (found := report.of(severity))
    )
    if examples := shown_examples(report, ON_PAGE):
        what = "The model learns to write the coloured tokens, and only reads the others."
        shown = (
            Folded(place, (Tokens(tokens),)) if number >= OPEN else Titled(place, Tokens(tokens))
            for number, (place, tokens) in enumerate(examples)
        )
        blocks.append(Section("What the model sees", (Paragraph(what), *shown)))
    return page(f"Check of {name}", "What the model will see, and what is wrong with it", blocks)


OPEN = 3
"""Examples that are shown unfolded."""


def _token_figures(report: Report) -> list[tuple[str, str]]:
    encoding = report.examples.encoding
    if encoding is None or not encoding.examples:
        return []
    examples = [one for found in encoding.examples.values() for one in found]
    tokens, learned = sum(len(one.ids) for one in examples), sum(int(one.learned.sum()) for one in examples)
    longest = max(len(one.ids) for one in examples)
    return [
        ("tokens", f"{tokens:,}"),
        ("of them learned", f"{100 * learned / tokens:.0f} %"),
        ("tokens of the longest row", f"{longest:,}"),
    ]


class Style:
    """The CSS of findings and tokens."""

    def html(self) -> str:
        return f"<style>{STYLE}</style>\n"


@dataclass(frozen=True)
class Found:
    """One finding: its title, the first places, and the remedy."""

    finding: Finding

    def html(self) -> str:
        one = self.finding
        more = one.count - len(one.places)
        rows = [(hit.place, hit.detail) for hit in one.places]
        places = Table(rows).html() + (f"<p>and {more:,} more</p>\n" if more else "")
        return (
            f'<div class="found {one.severity}"><h3>{escaped(str(one))}</h3>\n{places}'
            f"<p>{escaped(one.remedy)}</p></div>\n"
        )


@dataclass(frozen=True)
class Titled:
    """A block below its title."""

    title: str
    block: Block

    def html(self) -> str:
        return f"<h3>{escaped(self.title)}</h3>\n{self.block.html()}"


@dataclass(frozen=True)
class Tokens:
    """Tokens, with learned ones coloured."""

    tokens: Sequence[Learned]

    def html(self) -> str:
        pieces = "".join(_piece(token, learned) for token, learned in self.tokens[:MOST_TOKENS])
        more = len(self.tokens) - MOST_TOKENS
        rest = f"<p>and {more:,} more tokens</p>\n" if more > 0 else ""
        return f'<p class="tokens">{pieces}</p>\n{rest}'


def _piece(token: Token, learned: bool) -> str:
    label = f"token {token.id}, {'learned' if learned else 'not learned'}"
    ends = "<br>" if token.kind == "text" and token.text.endswith("\n") else ""
    tag = "b" if learned else "span"
    return f'<{tag} title="{escaped(label)}">{escaped(face(token))}</{tag}>{ends}'


STYLE = """
h3 { margin: 1.5rem 0 0.4rem; font-size: 1rem; }
.found { margin: 1rem 0; padding: 0.1rem 1rem; border-left: 0.25rem solid var(--faint); }
.found h3 { margin-top: 0.5rem; }
.found .scroll { margin: 0.5rem 0; }
.found td { overflow-wrap: anywhere; }
.error { border-color: #c4382f; } .warning { border-color: #d98a1f; }
.tokens { max-width: none; line-height: 2; }
.tokens > * {
  margin-right: 1px; padding: 0.1rem 0.14rem; border-radius: 0.2rem; background: var(--sample); color: var(--faint);
  font: 0.88rem ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; unicode-bidi: isolate;
  overflow-wrap: anywhere;
}
.tokens > b { background: #cfe3fb; color: #0d3b75; }
@media (prefers-color-scheme: dark) { .tokens > b { background: #1c3f68; color: #d7e8fc; } }
@media (max-width: 36rem) { .found { padding: 0.1rem 0 0.1rem 0.7rem; } .figures div { flex-basis: 5.5rem; } }
"""
