"""A stage: one kind of training. It says where batches come from, what the loss is, and how a model is validated.

The loop, the run and the deadline know nothing else of what is learned. Stages are registered in `stages/`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import IGNORE
from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Batch:
    """What one update learns from.

    inputs: token ids `[batch, seq]`. targets: the next ids, `IGNORE` where nothing is learned. segments: which packed
    example each token belongs to, or None where every row is one. extra: tensors with a row for each sequence. metrics:
    figures about the whole batch for the log, such as the mean reward.
    """

    inputs: Tensor
    targets: Tensor
    segments: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_windows(cls, windows: Tensor) -> "Batch":
        """Windows `[batch, seq + 1]` of a token stream, in which each token but the last predicts the next one."""
        return cls(windows[:, :-1], windows[:, 1:])

    def __len__(self) -> int:
        """Sequences."""
        return len(self.inputs)

    @property
    def learned(self) -> int:
        """Predicted tokens, those with `IGNORE` left out."""
        return int((self.targets != IGNORE).sum())

    def split(self, sequences: int) -> Iterator["Batch"]:
        """Micro-batches of at most so many sequences."""
        for start in range(0, len(self), sequences):
            yield self.rows(slice(start, start + sequences))

    def rows(self, some: slice) -> "Batch":
        """Some of the sequences."""
        return self._map(itemgetter(some))

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        segments = None if self.segments is None else change(self.segments)
        extra = {name: change(tensor) for name, tensor in self.extra.items()}
        return Batch(change(self.inputs), change(self.targets), segments, extra, self.metrics)


Loss = Callable[[Decoder, Batch], tuple[Tensor, float, Mapping[str, float]]]
"""`loss(model, batch)` gives `(loss_sum, weight, metrics)`: the mean loss is `loss_sum / weight`.

An update follows the loss divided by the total weight of the whole batch, over micro-batches and processes.
"""


class Batches(Protocol):
    """An endless source of batches, whose place can be saved and restored in mid-epoch."""

    def next(self, model: Decoder) -> Batch:
        """The next batch; with several processes, this process's share of it.

        model: the model as it is now, for batches that depend on it.
        """

    def state(self) -> dict[str, Any]:
        """The place, for JSON; the same in every process."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a place that `state` gave."""


class Stage(Protocol):
    """One kind of training on one set of data.

    tokenizer: that of the model folder at the end. held_out_tokens: how many there are to validate on.
    """

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def batches(self) -> Batches: ...
    @property
    def held_out_tokens(self) -> int: ...

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """See `Loss`."""

    def validate(self, model: Decoder, dtype: torch.dtype, tokens: int) -> float:
        """The mean loss on a fixed set of about so many held-out tokens; the run keeps the weights with the least."""

    def in_units(self, loss: float, *, held_out: bool) -> Mapping[str, float]:
        """The same loss in the units of this stage, as further fields of the log's rows."""

    def warnings(self, metrics: Mapping[str, float]) -> Sequence[str]:
        """What the metrics of one more update say is going wrong, in words; each warning is given once."""

    def sample(self, model: Decoder, seed: int) -> str:
        """A short text that shows what the model has learned; the same for equal weights and seed."""

    def score(self, model: Decoder, tokens: int, check: Callable[[], None]) -> Mapping[str, Any]:
        """The final score over about so many held-out tokens. `check` is called often, and may raise to stop it.

        `PER_EXAMPLE` in it, if present, is no part of a run's result: `{"losses": [...], "weights": [...]}` of each
        held-out example in a fixed order, to compare two models on the same examples, and optionally the "unit" of the
        losses over the weights, if it is not nats per token.
        """


PER_EXAMPLE = "per_example"


def result_of(score: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's score without what belongs to single examples."""
    return {name: value for name, value in score.items() if name != PER_EXAMPLE}


@dataclass(frozen=True)
class Question:
    """A held-out question. prompt: its ids, up to where the answer begins. row: the fields that graders read.

    text, reference: the last message before the answer, and the answer, as text. max_tokens: of an answer; 0: it
    follows from the references.
    """

    prompt: tuple[int, ...]
    row: Mapping[str, Any]
    text: str
    reference: str
    max_tokens: int = 0


@runtime_checkable
class Asking(Protocol):
    """A `Stage` with held-out questions that a model can answer."""

    def questions(self, count: int) -> Sequence[Question]:
        """At most `count` held-out questions, spread evenly; the same ones for the same count."""
