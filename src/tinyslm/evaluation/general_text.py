"""How well a model predicts general text: what fine-tuning may cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.data.reading import read_documents
from tinyslm.evaluation.loss import document_bits
from tinyslm.evaluation.tasks.shipped import SETS
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

MOST_CHARACTERS = 40_000
"""Longer texts are thinned out: whole documents, spread evenly, with about so many characters in total."""
LONGEST_DOCUMENT = 4_000
AT_ONCE = 8


def shipped_texts() -> list[str]:
    """Short texts of prose, code and numbers that ship with tinyslm: `evaluation/sets/texts.jsonl`."""
    lines = (SETS / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def texts_of(paths: Sequence[str]) -> list[str]:
    """Documents of files, at most about `MOST_CHARACTERS` of them. Raises `TinyslmError` if there is no text."""
    found = [text for text in (piece.text[:LONGEST_DOCUMENT] for piece in read_documents(paths)) if text.strip()]
    if not found:
        raise TinyslmError(f"There is no text in {', '.join(paths)}.", "Give files with text: --general FILE")
    every = max(1, -(-sum(map(len, found)) // MOST_CHARACTERS))
    return found[::every]


def text_bits(
    model: Decoder, tokenizer: Tokenizer, texts: Sequence[str], dtype: torch.dtype, check: Callable[[], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bits and UTF-8 bytes of each text; see `document_bits`. `check` is called often, and may raise."""
    start = tokenizer.start_ids[-1] if tokenizer.start_ids else tokenizer.eos_id
    documents = [(tokenizer.encode(text), len(text.encode("utf-8", "replace"))) for text in texts]
    parts = []
    for first in range(0, len(documents), AT_ONCE):
        check()
        parts.append(document_bits(model, documents[first : first + AT_ONCE], start_id=start, dtype=dtype))
    bits, sizes = zip(*parts, strict=True)
    return np.concatenate(bits), np.concatenate(sizes)
