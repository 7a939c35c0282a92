"""Pass two over the text: encode the kept documents in worker processes, and write them as shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyslm.data.corpus import Corpus, Flags, Ints, spooled
from tinyslm.data.documents import Progress
from tinyslm.data.shards import SPLITS, SplitWriter, Tokens
from tinyslm.data.split import Split
from tinyslm.data.text import Text
from tinyslm.data.workers import Mapper
from tinyslm.tokenizer.losses import Losses, losses, refuse
from tinyslm.tokenizer.tokenizer import Tokenizer


def write_splits(
    text: Text, split: Split, tokenizer: Tokenizer, folder: Path, workers: Mapper, progress: Progress
) -> dict[str, Any]:
    """Write the tokens of all kept documents, and the tokenizer, into `folder`. Returns the manifest's counts.

    Raises `TinyslmError` as soon as the tokenizer loses text, unless the text's configuration accepts that.
    """
    corpus, kept = text.corpus, text.kept[text.corpus.pieces.documents]
    tokenizer.save(folder / "tokenizer")
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    writers = [SplitWriter(folder, name, dtype) for name in SPLITS]
    tasks = list(_tasks(corpus, split, kept, folder / "tokenizer", tokenizer.sha256, dtype))
    total, done, lost = sum(task.size for task in tasks), 0, Losses()
    for task, (*encoded, missing) in zip(tasks, workers.map(_encode, tasks), strict=True):
        lost += missing
        if not text.inputs.config.lossy:
            refuse(lost)
        for writer, part in zip(writers, encoded, strict=True):
            writer.add(*part)
        done += task.size
        progress("encode", done, total)
    splits = {name: writer.finish() for name, writer in zip(SPLITS, writers, strict=True)}
    return {"dtype": dtype, "splits": splits} | ({"lost": str(lost)} if lost.changed else {})


@dataclass(frozen=True, slots=True)
class _Task:
    """A part of the corpus to encode, with flags for each piece."""

    file: Path
    offset: int
    lengths: Ints
    kept: Flags
    valid: Flags
    last: Flags
    cut: tuple[int, int] | None  # the piece that is divided, if it is in this part, and the byte position
    tokenizer: Path
    sha256: str
    dtype: str

    @property
    def size(self) -> int:
        return int(self.lengths[self.kept].sum())


Encoded = tuple[Tokens, NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]  # the arguments of `SplitWriter.add`


def _tasks(corpus: Corpus, split: Split, kept: Flags, tokenizer: Path, sha256: str, dtype: str) -> Iterator[_Task]:
    pieces = corpus.pieces
    for file, offset, part in corpus.parts():
        has_cut = split.cut and part.start <= split.cut[0] < part.stop
        cut = (split.cut[0] - part.start, split.cut[1]) if split.cut and has_cut else None
        flags = (kept[part], split.valid[part], pieces.last[part])
        yield _Task(file, offset, pieces.bytes[part], *flags, cut, tokenizer, sha256, dtype)


def _encode(task: _Task) -> tuple[Encoded, Encoded, Losses]:
    """Encode the kept pieces: those for training, and those for validation; and what the tokenizer loses of them."""
    sides: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    numbers = np.flatnonzero(task.kept).tolist()
    for number, text in zip(numbers, spooled(task.file, task.offset, task.lengths, task.kept), strict=True):
        if task.cut and number == task.cut[0]:
            left, right = divided(text, task.cut[1])
            if left:
                sides[0].append((left, True))
            sides[1].append((right, bool(task.last[number])))
        else:
            sides[bool(task.valid[number])].append((text, bool(task.last[number])))
    tokenizer = _tokenizer(task.tokenizer, task.sha256)
    (train, lost), (valid, more) = (_encode_pieces(pieces, tokenizer, task.dtype) for pieces in sides)
    return train, valid, lost + more


def divided(text: str, place: int) -> tuple[str, str]:
    """Divide `text` at byte `place` of its UTF-8 encoding."""
    data = text.encode()
    return data[:place].decode(), data[place:].decode()


def _encode_pieces(pieces: list[tuple[str, bool]], tokenizer: Tokenizer, dtype: str) -> tuple[Encoded, Losses]:
    texts = [text for text, _ in pieces]
    ids = tokenizer.encode_batch(texts)
    lost = losses(tokenizer, zip(texts, ids, strict=True))
    for encoded, (_, last) in zip(ids, pieces, strict=True):
        if last:
            encoded.append(tokenizer.eos_id)
    counts = np.array([len(encoded) for encoded in ids], np.int64)
    tokens: Tokens = np.fromiter(chain.from_iterable(ids), dtype, int(counts.sum()))
    sizes = np.array([len(text.encode()) for text, _ in pieces], np.int64)
    return (tokens, counts, sizes, np.array([last for _, last in pieces], bool)), lost


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, _sha256: str) -> Tokenizer:
    """Load the tokenizer once in each process."""
    return Tokenizer.load(folder)
