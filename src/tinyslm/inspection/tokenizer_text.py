"""What a comparison of tokenizers reads: the tokenizers, and parts of a text to train on and to measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.files import in_home
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Notify
from tinyslm.data.reading import read_documents
from tinyslm.data.text_kinds import paragraphs
from tinyslm.model.folder import find_model
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.tokenizer import Tokenizer

READ = 50_000_000
"""Characters that are read at most; later text is not looked at."""
TRAINED, MEASURED = 20_000_000, 2_000_000
"""Characters of the part to train on and of the part that is measured, at most."""
PART = 2_000
"""Characters of the parts that a longer document is cut into, at paragraphs; lines without an end are cut anywhere."""
LONGEST_PART = 50_000
HELD_OUT = 5  # one in so many parts is measured


@dataclass(frozen=True)
class Sample:
    """Parts of a text. No part of `measured` is in `train`, which is empty unless a tokenizer is to be trained."""

    train: Sequence[str]
    measured: Sequence[str]


def read_sample(paths: Sequence[str], config: DataConfig, *, apart: bool, notify: Notify) -> Sample:
    """A sample that depends only on the content of the text, not on its order. apart: keep a part to train on.

    Raises `TinyslmError` if there is no text, or too little to keep a part.
    """
    found: dict[int, str] = {}
    wanted = MEASURED + (TRAINED if apart else 0)
    share, kept, read = 1.0, 0, 0
    for document in read_documents(paths, config, notify=notify):
        for part in _parts(document.text):
            read += len(part)
            place = xxhash.xxh3_64_intdigest(part.encode("utf-8", "replace"))
            if place < share * 2**64 and place not in found and part.strip():
                found[place] = part
                kept += len(part)
        while kept > 2 * wanted:  # keep half of it: those with low numbers
            share /= 2
            found = {place: part for place, part in found.items() if place < share * 2**64}
            kept = sum(map(len, found.values()))
        if read >= READ:
            break
    parts = [found[place] for place in sorted(found)]
    if not apart:
        return Sample((), _first(parts, MEASURED))
    if len(parts) < 2:
        raise TinyslmError(
            "There is too little text to train a tokenizer on one part of it and measure another.",
            "Give more text, or a tokenizer folder instead of a kind.",
        )
    measured = _first(parts[: max(1, len(parts) // HELD_OUT)], MEASURED)
    return Sample(_first(parts[len(measured) :], TRAINED), measured)


def _parts(text: str) -> Iterator[str]:
    part = ""
    for paragraph in paragraphs(text):
        for start in range(0, len(paragraph), LONGEST_PART):
            part += paragraph[start : start + LONGEST_PART]
            if len(part) >= PART:
                yield part
                part = ""
    if part:
        yield part


def _first(parts: Sequence[str], characters: int) -> list[str]:
    chosen: list[str] = []
    for part in parts:
        if characters <= 0:
            break
        chosen.append(part)
        characters -= len(part)
    return chosen


def is_kind(name: str) -> bool:
    """Whether `name` means a tokenizer to train: `KIND`, `KIND:SIZE`, with settings such as `,digits=one` behind."""
    kind, _, size = name.partition(",")[0].partition(":")
    return kind in KINDS and (":" not in name or size.isdigit())


def settings_of(name: str) -> TokenizerConfig:
    """The settings that such a name means. Raises `TinyslmError` for settings that there are not."""
    what, *settings = name.split(",")
    kind, _, size = what.partition(":")
    given = dict(setting.partition("=")[::2] for setting in settings)
    return build_config(TokenizerConfig, {"kind": kind, "vocab_size": int(size or 0), **given})


def given_tokenizer(given: str | Path | Tokenizer) -> Tokenizer:
    """A tokenizer, or that of a tokenizer folder, a model folder or a run folder. Raises `TinyslmError`."""
    if isinstance(given, Tokenizer):
        return given
    folder = in_home(str(given))
    if not folder.exists():
        kind = str(given).partition(":")[0]
        raise TinyslmError(
            f"{given} is neither a folder nor a kind of tokenizer.",
            f"{did_you_mean(kind, KINDS)} A size follows after a colon: bpe:4096.",
        )
    if not folder.is_dir():
        raise TinyslmError(f"{given} is not a folder.", "Give the folder of a tokenizer or of a model.")
    if not (folder / "tokenizer.json").is_file():
        folder = find_model(folder)
    return Tokenizer.load(folder)
