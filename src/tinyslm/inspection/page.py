"""What was found inside a model, as one HTML page that needs no server."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.page import Block, Folded, Paragraph, Section, Table, escaped, page
from tinyslm.inspection.inspecting import Inspection, Scored
from tinyslm.inspection.pieces import KindLegend, KindPieces
from tinyslm.inspection.token_kinds import loss_by_kind
from tinyslm.tokenizer.shown import face

BOUNDS = (0.001, 0.01, 0.1, 0.3, 0.7)
"""Probabilities between which tokens have another colour."""

SINK = (
    "In most models the first token attracts much attention: the weights of a row always sum to 100 %, and a head that "
    "looks for nothing here leaves them at the one token that every row can see."
)

INK, PAPER = np.array((43, 70, 196)), np.array((241, 242, 244))
SIDE = 160  # pixels, at least


def inspection_page(found: Inspection, name: str, layer: int | None = None) -> str:
    """The page: tokens with their probabilities, and attention: of each layer, or of each head of one layer."""
    tokens = Section(
        "Tokens",
        (
            Paragraph("The more orange a token is, the less the model expected it. Point at one for its probability."),
            Pieces(found.tokens),
            Folded("As a table, with what else could have stood there", (_table(found),)),
        ),
    )
    count = found.layers if layer is None else found.heads
    pictures = tuple(
        (f"layer {number}", found.attention(number))
        if layer is None
        else (f"head {number}", found.attention(layer, number))
        for number in range(1, count + 1)
    )
    whole = "the mean of all heads of each layer" if layer is None else f"each head of layer {layer}"
    attention = Section(
        "Attention",
        (
            Paragraph(f"Rows are tokens, columns are tokens they attend to; {whole}. The bluer, the more. {SINK}"),
            HeatMaps(pictures),
        ),
    )
    kinds = Section("Kinds of tokens", tuple(_kinds(found)))
    counts = (("token", len(found.tokens)), ("layer", found.layers), ("head", found.heads))
    said = ", ".join(f"{n} {noun}{'s' * (n != 1)}" for noun, n in counts)
    return page(f"Inside {name}", said, (tokens, kinds, attention))


def _kinds(found: Inspection) -> Iterator[Block]:
    """The pieces by kind, and the share of the loss on each kind."""
    losses = loss_by_kind(found.tokens)
    yield KindLegend()
    yield KindPieces([one.token for one in found.tokens])
    if losses:
        rows = [(one.kind, str(one.tokens), f"{one.bits_per_token:.2f}", f"{100 * one.share:.0f} %") for one in losses]
        yield Table(rows, ("kind", "tokens", "bits/token", "of the loss"), "The loss by kind of token")


@dataclass(frozen=True)
class Pieces:
    """Tokens as coloured pieces of text."""

    tokens: Sequence[Scored]

    def html(self) -> str:
        return f'<style>{STYLE}</style>\n<p class="tokens">{"".join(map(_piece, self.tokens))}</p>\n'


@dataclass(frozen=True)
class HeatMaps:
    """Squares of shares between 0 and 1, each with its name."""

    pictures: Sequence[tuple[str, NDArray[Any]]]

    def html(self) -> str:
        return f'<div class="maps">{"".join(_picture(name, shares) for name, shares in self.pictures)}</div>\n'


def _piece(one: Scored) -> str:
    share = None if one.logprob is None else math.exp(one.logprob)
    step = "" if share is None else f" s{sum(share >= bound for bound in BOUNDS)}"
    said = "the first token" if share is None else f"{_percent(share)}, rank {one.rank}"
    ends = "<br>" if one.token.kind == "text" and one.token.text.endswith("\n") else ""
    return f'<span class="token{step}" title="{escaped(said)}">{escaped(face(one.token))}</span>{ends}'


def _table(found: Inspection) -> Table:
    rows = []
    for place, one in enumerate(found.tokens, 1):
        others = ", ".join(f"{face(token)} {_percent(math.exp(logprob))}" for token, logprob in one.top[:5])
        probability = "–" if one.logprob is None else _percent(math.exp(one.logprob))
        rows.append((str(place), face(one.token), probability, others))
    return Table(rows, ("", "token", "probability", "likeliest there"))


def _picture(name: str, shares: NDArray[Any]) -> str:
    zoom = -(-SIDE // len(shares))
    large = np.kron(shares.clip(0, 1), np.ones((zoom, zoom)))
    colours = (PAPER + (INK - PAPER) * (large**0.6)[..., None]).round().astype(np.uint8)
    source = base64.b64encode(png(colours)).decode()
    label = escaped(f"Heat map of attention: {name}")
    image = f'<img alt="{label}" src="data:image/png;base64,{source}">'
    return f"<figure>{image}<figcaption>{escaped(name)}</figcaption></figure>"


def png(colours: NDArray[np.uint8]) -> bytes:
    """A picture `[height, width, 3]` as PNG (https://www.w3.org/TR/png-3)."""
    height, width, _ = colours.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = np.concatenate([np.zeros((height, 1), np.uint8), colours.reshape(height, -1)], 1)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


STYLE = """
.s0 { background: #f3a46b; } .s1 { background: #f7c296; } .s2 { background: #fbdfc6; } .s3 { background: #fcf0e6; }
.s4 { background: #eef4fc; } .s5 { background: #d6e6fa; }
@media (prefers-color-scheme: dark) {
  .s0 { background: #a34d10; } .s1 { background: #7d4219; } .s2 { background: #553620; } .s3 { background: #352c26; }
  .s4 { background: #1f2a37; } .s5 { background: #1c3a5c; }
  .maps img { filter: invert(1) hue-rotate(180deg); }
}
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; }
.maps img { display: block; width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
.maps figcaption { margin-top: 0.25rem; }
"""
