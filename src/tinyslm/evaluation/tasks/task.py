"""Tasks: examples, how an answer is scored, and what chance would reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinyslm.evaluation.protocols import Continuation, ContinuationScore, Prompt
from tinyslm.inference.request import Completion
from tinyslm.inference.settings import SamplingSettings

Row = Mapping[str, Any]
Outcome = Mapping[str, float]
"""What came of one example: numbers by the names of metrics."""


class Example(Protocol):
    """One item of a task.

    Attributes: `id`; `group`: a part of the task that is reported on its own, or ""; `text`: what must not be in the
    training data; `chance`: the expected metric of a guess.
    """

    id: str
    group: str
    chance: float

    @property
    def text(self) -> str: ...


class ScoredExample(Example, Protocol):
    """An item that is scored by the probabilities of texts."""

    def continuations(self) -> Sequence[Continuation]:
        """The texts to score."""

    def outcome(self, scores: Sequence[ContinuationScore]) -> Outcome:
        """The metrics, from the scores of `continuations`."""

    def answer(self, scores: Sequence[ContinuationScore], metric: str) -> str:
        """What the model prefers by this metric, in words."""


class GeneratedExample(Example, Protocol):
    """An item that is scored by what the model writes."""

    def prompt(self) -> str | Sequence[Mapping[str, Any]]:
        """A text to continue, or a conversation to answer."""

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The tools that are offered with it."""

    def outcome(self, answer: Completion) -> Outcome:
        """The metrics of an answer."""


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    read: a row of a data file, its place for messages, and the task's options to an example; `None` for a row that is
    left out and counted. generates: whether the model writes. metrics: their names, the one that is quoted first.
    ratio: that metric is the sum of the first name over the sum of the second, as bits over bytes; less is better.
    """

    name: str
    read: Callable[[Row, str, Mapping[str, Any]], Any]
    generates: bool
    metrics: Sequence[str]
    ratio: tuple[str, str] | None = None


@dataclass(frozen=True)
class Task:
    """Examples of one kind.

    metric: the one that is quoted. sampling: how answers are drawn; greedy by default. dropped: rows that were left
    out. source: where the examples come from.
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
        """The mean metric of guesses; `None` where there is no such level."""
        if self.kind.ratio or not self.examples:
            return None
        return float(sum(example.chance for example in self.examples) / len(self.examples))


__all__ = ["Continuation", "Example", "GeneratedExample", "Kind", "Outcome", "Prompt", "Row", "ScoredExample", "Task"]
