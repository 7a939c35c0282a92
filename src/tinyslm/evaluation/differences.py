"""Several models' scores on one task: paired differences from the first, and the items on which they disagree most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinyslm.evaluation.intervals import Array, holm, paired_change_intervals, paired_difference
from tinyslm.evaluation.running import TaskScore
from tinyslm.evaluation.tasks.task import Task

LEVEL = 0.05
SHOWN_ITEMS = 8
SHOWN_GROUPS = 8
LEAST_IN_GROUP = 10
"""Parts of a task with fewer items are not compared: their scores are mostly noise."""


@dataclass(frozen=True)
class PairedDifference:
    """A score's difference from the first model's on the same items, with its 95 % interval.

    Of a ratio, such as bits per byte, it is the relative change. p: of no difference, two-sided. corrected: p for all
    comparisons that were made (Holm).
    """

    value: float
    low: float
    high: float
    p: float
    corrected: float

    @property
    def significant(self) -> bool:
        """Whether it is more than noise, after the correction."""
        return self.corrected < LEVEL


@dataclass(frozen=True)
class Disagreement:
    """An item with different outcomes. outcomes, answers: by model; `None` and "" where it has none."""

    id: str
    group: str
    text: str
    outcomes: tuple[float | None, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class TaskComparison:
    """A task's scores by model, `None` for a model that it could not be run on.

    relative: whether differences are relative changes; then less is better. disagreeing: items with different outcomes;
    disagreements: some of those where they differ most. groups: the quoted metric by model, of those parts of the task
    where it differs most.
    """

    task: str
    metric: str
    relative: bool
    chance: float | None
    items: int
    scores: tuple[TaskScore | None, ...]
    differences: tuple[PairedDifference | None, ...]
    disagreeing: int
    disagreements: tuple[Disagreement, ...]
    groups: tuple[tuple[str, tuple[float | None, ...]], ...]


def compare_scores(task: Task, scores: Sequence[TaskScore | None]) -> TaskComparison:
    """Compare the scores of several models on one task. Differences are not yet `corrected` for their number."""
    values = [None if score is None else _values(task, score) for score in scores]
    known = np.stack([value for value in values if value is not None]) if any(scores) else np.zeros((1, 0))
    spread = known.max(0) - known.min(0)
    disagreements = [
        Disagreement(
            id=task.examples[index].id,
            group=task.examples[index].group,
            text=task.examples[index].text,
            outcomes=tuple(None if value is None else float(value[index]) for value in values),
            answers=tuple("" if score is None else score.answers[index] for score in scores),
        )
        for index in _largest(spread, SHOWN_ITEMS)
    ]
    return TaskComparison(
        task=task.name,
        metric=task.metric,
        relative=task.kind.ratio is not None,
        chance=task.chance,
        items=len(task.examples),
        scores=tuple(scores),
        differences=tuple(_difference(task, scores[0], score, first=index == 0) for index, score in enumerate(scores)),
        disagreeing=int((spread > 0).sum()),
        disagreements=tuple(disagreements),
        groups=tuple(_groups(task, scores)),
    )


def corrected(compared: Sequence[TaskComparison]) -> list[TaskComparison]:
    """The same with every p corrected for how many there are on all tasks together."""
    ps = [one.p for task in compared for one in task.differences if one is not None]
    found = iter(holm(ps))
    return [
        replace(
            task,
            differences=tuple(None if one is None else replace(one, corrected=next(found)) for one in task.differences),
        )
        for task in compared
    ]


def _difference(task: Task, base: TaskScore | None, score: TaskScore | None, *, first: bool) -> PairedDifference | None:
    if first or base is None or score is None:
        return None
    if task.kind.ratio is None:
        found = paired_difference(_values(task, score), _values(task, base))
        return PairedDifference(found.value, found.low, found.high, found.p, found.p)
    total, _ = task.kind.ratio  # the sizes are the same for both
    totals = np.array([[one[total] for one in pair] for pair in zip(base.outcomes, score.outcomes, strict=True)])
    low, high = paired_change_intervals(totals)[1]
    p = paired_difference(totals[:, 1], totals[:, 0]).p
    return PairedDifference(float(totals[:, 1].sum() / totals[:, 0].sum() - 1), low, high, p, p)


def _values(task: Task, score: TaskScore) -> Array:
    """The quoted metric by item."""
    if task.kind.ratio is None:
        return np.array([one.get(task.metric, 0.0) for one in score.outcomes])
    total, size = task.kind.ratio
    return np.array([one[total] / one[size] for one in score.outcomes])


def _largest(spread: Array, count: int) -> list[int]:
    """Indices of the largest values above zero; from all over the task where many are equal."""
    order = np.argsort(-spread, kind="stable")[: (spread > 0).sum()]
    if len(order) > count:
        least = spread[order[count - 1]]
        above, equal = order[spread[order] > least], order[spread[order] == least]
        order = np.concatenate([above, equal[np.arange(count - len(above)) * len(equal) // (count - len(above))]])
    return [int(index) for index in order]


def _groups(task: Task, scores: Sequence[TaskScore | None]) -> list[tuple[str, tuple[float | None, ...]]]:
    """The parts of the task where scores differ most, the most different first."""
    sizes = Counter(example.group for example in task.examples)
    known = next((list(score.groups) for score in scores if score is not None), [])
    names = [name for name in known if sizes[name] >= LEAST_IN_GROUP]
    rows = [(name, tuple(None if score is None else score.groups[name] for score in scores)) for name in names]

    def spread(row: tuple[str, tuple[float | None, ...]]) -> float:
        values = [value for value in row[1] if value is not None]
        return max(values) - min(values)

    return sorted((row for row in rows if spread(row) > 0), key=lambda row: -spread(row))[:SHOWN_GROUPS]
