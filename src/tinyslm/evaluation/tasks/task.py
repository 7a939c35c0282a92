"""Tasks: examples, how an answer is scored, and the chance level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinyslm.evaluation.protocols import Continuation, ContinuationScore, Prompt
from tinyslm.inference.request import Completion
from tinyslm.inference.settings import SamplingSettings

Row = Mapping[str, Any]
Outcome = Mapping[str, float]
"""The metrics of one example, by name."""


class Example(Protocol):
    """One item of a task.

    Attributes: `id`; `group`: a subset of the task that is reported separately, or ""; `text`: what the training data
    must not contain; `chance`: the expected metric of guessing.
    """

    id: str
    group: str
    chance: float

    @property
    def text(self) -> str: ...


class ScoredExample(Example, Protocol):
    """An item whose score depends on the probabilities of texts."""

    def continuations(self) -> Sequence[Continuation]:
        """The texts to score."""

    def outcome(self, scores: Sequence[ContinuationScore]) -> Outcome:
        """The metrics, given the scores of `continuations`."""

    def answer(self, scores: Sequence[ContinuationScore], metric: str) -> str:
        """The model's preference by this metric, as text for reports."""


class GeneratedExample(Example, Protocol):
    """An item whose score depends on what the model writes.

    It may have the attributes `runs`, the tools whose calls are executed, until the model answers; and `constraint`, an
    `OutputConstraint` for constrained decoding.
    """

    def prompt(self) -> str | Sequence[Mapping[str, Any]]:
        """A text to continue, or a conversation to answer."""

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The tools that the model may call."""

    def outcome(self, answer: Completion) -> Outcome:
        """The metrics of an answer."""


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    read: converts a row of a data file, its location for error messages, and the task's options to an example; returns
    `None` for a row to skip and count. generates: whether the model generates text. metrics: their names, the primary
    one first. ratio: the primary metric is the sum of the first outcome divided by the sum of the second, such as bits
    by bytes; lower is better.
    """

    name: str
    read: Callable[[Row, str, Mapping[str, Any]], Any]
    generates: bool
    metrics: Sequence[str]
    ratio: tuple[str, str] | None = None


@dataclass(frozen=True)
class Task:
    """Examples of one kind.

    metric: the primary metric. sampling: how answers are generated; greedy by default. dropped: how many rows were
    skipped. source: where the examples come from.
    """

    name: str
    kind: Kind
    examples: Sequence[Any]
    metric: str
    sampling: SamplingSettings = field(default_factory=lambda: SamplingSettings(temperature=0.0, max_tokens=256))
    dropped: int = 0
    source: str = ""

    @property
    def chance(self) -> float | None:
        """The expected metric of guessing, as a mean over the examples; `None` for a ratio, which has none."""
        if self.kind.ratio or not self.examples:
            return None
        return float(sum(example.chance for example in self.examples) / len(self.examples))


__all__ = ["Continuation", "Example", "GeneratedExample", "Kind", "Outcome", "Prompt", "Row", "ScoredExample", "Task"]
