"""Overlap of a task's items with the texts that a model was trained on (see `tinyslm.data.ngrams`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyslm.data.shards import Shards, is_shards
from tinyslm.data.used import data_of


@dataclass(frozen=True)
class Overlap:
    """How many of the checked items occur in the training data, and the score without them, if any items are left."""

    found: int
    checked: int
    value_without: float | None


def training_texts(model: Path) -> Iterator[str] | None:
    """The documents that a run's model was trained on; `None` if the data is unknown or no longer exists.

    model: a run folder, or the model folder in one.
    """
    data = data_of(model)
    return _documents(data) if data and is_shards(data) else None


def _documents(data: Path) -> Iterator[str]:
    shards = Shards.open(data, verify=False)
    split = shards.split("train")
    for number in range(split.documents):
        yield shards.tokenizer.decode(split.document(number)[:-1].tolist())
