"""Tokens as pieces of text, coloured by what they are: on a page and in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinyslm.core.page import escaped
from tinyslm.inspection.token_kinds import KINDS, TokenKind, token_kind
from tinyslm.tokenizer.shown import Token, face


@dataclass(frozen=True)
class KindPieces:
    """A block of a page: tokens as pieces, coloured by their kind. label: before the pieces."""

    tokens: Sequence[Token]
    label: str = ""

    def html(self) -> str:
        said = f"<figcaption>{escaped(self.label)}</figcaption>" if self.label else ""
        return f'<figure class="cut">{said}<p class="tokens">{"".join(map(_piece, self.tokens))}</p></figure>\n'


@dataclass(frozen=True)
class KindLegend:
    """A block of a page: what the colours of the kinds mean, and their style, once on each page."""

    kinds: Sequence[TokenKind] = KINDS

    def html(self) -> str:
        names = "".join(f'<span class="token k-{kind}">{kind}</span>' for kind in self.kinds)
        return f'<style>{STYLE}</style>\n<p class="tokens">{names}</p>\n'


def _piece(token: Token) -> str:
    kind = token_kind(token)
    ends = "<br>" if token.kind == "text" and token.text.endswith("\n") else ""
    said = f"{kind}, token {token.id}"
    return f'<span class="token k-{kind}" title="{escaped(said)}">{escaped(face(token))}</span>{ends}'


def styled_pieces(tokens: Sequence[Token], width: int) -> Iterator[list[tuple[str, str]]]:
    """Lines of parts for `say_styled`, at most `width` columns wide; neighbours have different shades."""
    from rich.cells import cell_len

    line: list[tuple[str, str]] = []
    used = 0
    for number, token in enumerate(tokens):
        style = f"{token_kind(token)} {number % 2}"
        text = face(token)
        if used + cell_len(text) + 1 > width and line:
            yield line
            line, used = [], 0
        line.append((text, style))
        used += cell_len(text) + 1
    yield line


STYLE = """
.tokens { max-width: none; line-height: 2.1; margin: 0.35rem 0; }
.cut { margin: 0.75rem 0; }
.cut figcaption { margin: 0; }
.token {
  display: inline-block; max-width: 100%; margin: 0 2px 4px 0; padding: 0 0.28rem; line-height: 1.5;
  border: 1px solid var(--line); border-radius: 0.35rem; unicode-bidi: isolate; overflow-wrap: anywhere;
  font: 0.9rem ui-monospace, Menlo, Consolas, "Liberation Mono", monospace;
}
.k-words { background: #dbe8fb; } .k-digits { background: #fbdfc6; } .k-spaces { background: #eceef0; }
.k-punctuation { background: #d5efdc; } .k-bytes { background: #f6d9e4; } .k-special { background: #e8dcf7; }
@media (prefers-color-scheme: dark) {
  .k-words { background: #1d3a5f; } .k-digits { background: #6b3a12; } .k-spaces { background: #2c3238; }
  .k-punctuation { background: #1d4a2c; } .k-bytes { background: #5c2440; } .k-special { background: #43306b; }
}
"""
