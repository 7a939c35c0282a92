"""Divide text into training and validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyslm.core.errors import TinyslmError
from tinyslm.data.corpus import Corpus, Flags, Hashes
from tinyslm.data.text import Text

FEWEST_DOCUMENTS = 20
LOPSIDED = 3  # maximum factor by which a split by hash may miss the requested share


@dataclass(frozen=True, slots=True)
class Split:
    """valid: flags `[pieces]` of those for validation. cut: the piece to divide, if any, and the byte position."""

    kind: str  # "hash", "tail" or "given"
    valid: Flags
    cut: tuple[int, int] | None = None


def split_text(text: Text) -> Split:
    """Split the text that was read. Raises `TinyslmError` if the validation paths contain no text."""
    config = text.inputs.config
    if config.valid_paths:
        if not (text.kept & text.held_out).any():
            raise TinyslmError(
                f"No text was found in {', '.join(config.valid_paths)}.", "Give validation paths that hold text."
            )
        return Split("given", text.held_out[text.corpus.pieces.documents])
    return split_corpus(text.corpus, text.kept, config.valid_share)


def split_corpus(corpus: Corpus, kept: Flags, valid_share: float) -> Split:
    """Split by the hash of each document, or hold out the end of the text if documents are too few or too unequal."""
    sizes = corpus.document_bytes * kept
    chosen = _fraction(corpus.document_hashes) < valid_share
    share = sizes[chosen].sum() / max(sizes.sum(), 1)
    even = valid_share / LOPSIDED <= share <= min(valid_share * LOPSIDED, 0.9)
    if np.count_nonzero(kept) >= FEWEST_DOCUMENTS and even:
        return Split("hash", chosen[corpus.pieces.documents])
    return _tail(corpus, kept, valid_share)


def sample_pieces(corpus: Corpus, flags: Flags, size: int) -> Flags:
    """Flags of a deterministic random sample of the flagged pieces, of about `size` bytes at most."""
    total = int((corpus.pieces.bytes * flags).sum())
    if total <= size:
        return flags
    mixed = corpus.pieces.hashes * np.uint64(0x9E3779B97F4A7C15)  # independent of the split
    return flags & (_fraction(mixed) < size / total)


def _fraction(hashes: Hashes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Map hashes to numbers from 0 to 1."""
    return hashes / 2.0**64


def _tail(corpus: Corpus, kept: Flags, valid_share: float) -> Split:
    """Hold out the last `valid_share` of the bytes, cut after a newline nearby, else after a character."""
    sizes = corpus.pieces.bytes * kept[corpus.pieces.documents]
    ends = np.cumsum(sizes)
    wanted = int(ends[-1] * (1 - valid_share))
    piece = int(np.searchsorted(ends, wanted, side="right"))
    valid = np.arange(len(sizes)) > piece
    data = _piece_bytes(corpus, piece)
    place = _cut_place(data, wanted - int(ends[piece] - sizes[piece]))
    return Split("tail", valid, (piece, place))


def _cut_place(data: bytes, wanted: int) -> int:
    """The position after the newline nearest to `wanted`, at most a fifth of the way to either end, else `wanted`."""
    margin = min(wanted, len(data) - wanted) // 5
    before = data.rfind(b"\n", wanted - margin, wanted) + 1
    after = data.find(b"\n", wanted, wanted + margin) + 1
    if before or after:
        return min((place for place in (before, after) if place), key=lambda place: abs(place - wanted))
    while data[wanted] & 0xC0 == 0x80:
        wanted -= 1
    return wanted


def _piece_bytes(corpus: Corpus, piece: int) -> bytes:
    number = int(np.searchsorted(corpus.bounds, piece, side="right")) - 1
    path: Path = corpus.folder / str(number)
    with path.open("rb") as file:
        file.seek(int(corpus.pieces.bytes[corpus.bounds[number] : piece].sum()))
        return file.read(int(corpus.pieces.bytes[piece]))
