"""A comparison of tokenizers as tables, and as one HTML page that needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tinyslm.core.page import Bars, Block, Paragraph, Section, SideBySide, Table, page
from tinyslm.core.quantities import count
from tinyslm.data.text_kinds import RULE
from tinyslm.inspection.pieces import KindLegend, KindPieces
from tinyslm.inspection.tokenizers import TokenizerComparison, TokenizerReport, described

WORDS = (
    "tokens/word: tokens per word (fertility), each word encoded behind another one, by its frequency in the text; "
    "one token: the share of words that are a single token."
)
UNUSED = (
    "never used: the share of ordinary tokens that the measured text never needed. embeddings: the share of the "
    "parameters in the token embedding and the output projection; – where no model of this size has such a vocabulary."
)
RESTORED = "restored: parts of the text that decoding gave back unchanged."


LONGEST_NAME = 20
"""Characters of a tokenizer's name in tables."""


class Column(NamedTuple):
    """A table of a comparison: its header, and the cells of a row without the tokenizer's name."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(comparison: TokenizerComparison) -> list[tuple[str, Column]]:
    """The tables, each with its title: what text costs, what the vocabulary costs, speed and faults."""
    reports, kinds = comparison.reports, list(comparison.by_kind)
    return [
        (
            "Bytes per token",
            Column(
                ("all", *kinds),
                [(f"{one.bytes_per_token:.2f}", *(f"{one.by_kind[kind]:.2f}" for kind in kinds)) for one in reports],
            ),
        ),
        (
            "Vocabulary",
            Column(
                ("tokens/word", "one token", "vocabulary", "never used", "embeddings"),
                [
                    (
                        f"{one.tokens_per_word:.2f}",
                        f"{one.whole_words:.0%}",
                        f"{one.vocab_size:,}",
                        f"{one.unused / max(1, one.ordinary):.0%}",
                        "–" if one.embedding_share is None else f"{one.embedding_share:.0%}",
                    )
                    for one in reports
                ],
            ),
        ),
        (
            "Speed and round trip",
            Column(
                ("encode", "decode", "restored"),
                [
                    (
                        f"{one.encode_mb_per_s:.1f} MB/s",
                        f"{one.decode_mb_per_s:.1f} MB/s",
                        f"{one.documents - one.lost.changed:,} of {one.documents:,}",
                    )
                    for one in reports
                ],
            ),
        ),
    ]


def faults(comparison: TokenizerComparison) -> Iterator[str]:
    """A sentence for each tokenizer that does not restore every text, or makes special tokens of ordinary text."""
    for one in comparison.reports:
        if one.lost.changed:
            yield f"{one.name}: {one.lost}."
        if one.specials:
            yield f"{one.name} makes special tokens of ordinary text: {one.specials:,} in this text."


def short_names(comparison: TokenizerComparison) -> list[str]:
    """The names of the tokenizers, long ones without their beginning; whole if two would become equal."""
    names = [one.name for one in comparison.reports]
    cut = [name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}" for name in names]
    return cut if len(set(cut)) == len(cut) else names


def tokenizers_page(comparison: TokenizerComparison) -> str:
    """The whole HTML document."""
    reports, names = comparison.reports, short_names(comparison)
    found = dict(tables(comparison))
    kinds = SideBySide(
        [
            _Titled(kind, [(name, one.by_kind[kind]) for name, one in zip(names, reports, strict=True)])
            for kind in comparison.by_kind
        ]
    )
    sections = [
        Section(
            "Bytes per token",
            [Paragraph("The more, the fewer tokens a text takes, and the more of it fits a context."), kinds],
        ),
        Section("How texts are cut", list(_cuts(reports, names))),
        Section("Vocabulary", [_table(names, found["Vocabulary"]), Paragraph(WORDS), Paragraph(UNUSED)]),
        Section(
            "Speed and round trip",
            [
                _table(names, found["Speed and round trip"]),
                Paragraph(f"{RESTORED} Speed: of one thread, measured once."),
                *map(Paragraph, faults(comparison)),
            ],
        ),
        Section("What was measured", [Paragraph(described(comparison)), Paragraph(RULE), _models(comparison)]),
    ]
    return page("Tokenizers compared", ", ".join(one.name for one in reports), sections)


class _Titled:
    """Bars below a label."""

    def __init__(self, label: str, rows: Sequence[tuple[str, float]]) -> None:
        self._label, self._rows = label, rows

    def html(self) -> str:
        bars = Bars([(name, value, f"{value:.2f}") for name, value in self._rows])
        return f'<div style="flex: 1 1 20rem">{Paragraph(self._label).html()}{bars.html()}</div>'


def _cuts(reports: Sequence[TokenizerReport], names: Sequence[str]) -> Iterator[Block]:
    yield KindLegend()
    for number, cut in enumerate(reports[0].cuts):
        yield Paragraph(f"{cut.name.capitalize()}: {cut.text}")
        for name, one in zip(names, reports, strict=True):
            tokens = one.cuts[number].tokens
            yield KindPieces(tokens, f"{name}: {len(tokens)} tokens")


def _table(names: Sequence[str], table: Column) -> Table:
    rows = [(name, *cells) for name, cells in zip(names, table.rows, strict=True)]
    return Table(rows, ("tokenizer", *table.header))


def _models(comparison: TokenizerComparison) -> Table:
    rows = [
        (
            one.name,
            one.kind,
            "–" if one.dim is None else f"{one.dim}",
            "–" if one.depth is None else f"{one.depth}",
        )
        for one in comparison.reports
    ]
    caption = f"The models of {count(comparison.parameters)} parameters whose embeddings are counted"
    return Table(rows, ("tokenizer", "kind", "width", "depth"), caption)
