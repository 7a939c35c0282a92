"""Items of a task that stand in the training data: sequences of 13 words in common (as for GPT-3, arXiv 2005.14165).

Words are compared without regard to case and punctuation. An item of fewer words, but at least 8, must stand in the
training data as a whole; shorter ones are not checked, as they say nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.json_files import read_json
from tinyslm.data.shards import Shards, is_shards
from tinyslm.data.similarity import Hashes, words_of

WORDS = 13
FEWEST_WORDS = 8
CHUNK = 1 << 22  # bytes of training text at a time
_FACTOR = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Overlap:
    """Items found in the training data, of those that were checked; and the score without them, if any are left."""

    found: int
    checked: int
    value_without: float | None


def overlapping(texts: Sequence[str], training: Iterable[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which texts overlap with the training texts, and which were checked at all; both `[texts]`."""
    by_length: dict[int, list[tuple[Hashes, int]]] = {}
    for number, text in enumerate(texts):
        words = _word_hashes(text)
        if len(words) >= FEWEST_WORDS:
            length = min(WORDS, len(words))
            by_length.setdefault(length, []).append((_sequences(words, length), number))
    found, checked = np.zeros(len(texts), bool), np.zeros(len(texts), bool)
    tables: dict[int, tuple[Hashes, NDArray[np.int64]]] = {}
    for length, several in by_length.items():
        owners = np.concatenate([np.full(len(hashes), number) for hashes, number in several])
        tables[length] = np.concatenate([hashes for hashes, _ in several]), owners
        checked[owners] = True
    for chunk in _chunks(training):
        words = _word_hashes(chunk)
        for length, (hashes, owners) in tables.items():
            if len(words) >= length:
                found[owners[np.isin(hashes, _sequences(words, length))]] = True
    return found, checked


def training_texts(model: Path) -> Iterator[str] | None:
    """The documents that a run's model was trained on; `None` where the data is not known or no longer there.

    model: a run folder, or the model folder in one.
    """
    for run in (model, model.resolve().parent):
        if (run / "data.json").is_file():
            data = run / str(read_json(run / "data.json").get("folder", ""))
            return _documents(data) if is_shards(data) else None
    return None


def _documents(data: Path) -> Iterator[str]:
    shards = Shards.open(data, verify=False)
    split = shards.split("train")
    for number in range(split.documents):
        yield shards.tokenizer.decode(split.document(number)[:-1].tolist())


def _chunks(training: Iterable[str]) -> Iterator[str]:
    parts: list[str] = []
    size = 0
    for text in training:
        parts.append(text)
        size += len(text)
        if size >= CHUNK:
            yield "\n".join(parts)
            parts, size = [], 0
    yield "\n".join(parts)


def _word_hashes(text: str) -> Hashes:
    """A hash for each word, without marks."""
    data = text.lower().encode("utf-8", "replace")
    if not data:
        return np.zeros(0, np.uint64)
    starts, hashes = words_of(data)
    first = np.frombuffer(data, np.uint8)[starts]
    is_word = (
        (first >= 0x80) | ((first >= ord("a")) & (first <= ord("z"))) | ((first >= ord("0")) & (first <= ord("9")))
    )
    return hashes[is_word]


def _sequences(words: Hashes, length: int) -> Hashes:
    """A hash for every sequence of `length` words."""
    count = len(words) - length + 1
    total = np.zeros(count, np.uint64)
    for place in range(length):
        total += words[place : place + count] * np.uint64(pow(_FACTOR, place + 1, 1 << 64))
    return total
