"""Compare models on one task: paired differences from the first model, and the items on which they disagree most."""

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
"""Groups with fewer items are not compared: their scores are mostly noise."""


@dataclass(frozen=True)
class PairedDifference:
    """The difference of a model's score from the first model's on the same items, with its 95 % interval.

    For a ratio, such as bits per byte, it is the relative change. p: the two-sided p-value of the hypothesis that there
    is no difference. corrected: the p-value corrected for the number of comparisons (Holm).
    """

    value: float
    low: float
    high: float
    p: float
    corrected: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below `LEVEL`."""
        return self.corrected < LEVEL


@dataclass(frozen=True)
class Disagreement:
    """An item on which the models' outcomes differ. outcomes, answers: by model; `None` and "" without a score."""

    id: str
    group: str
    text: str
    outcomes: tuple[float | None, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class TaskComparison:
    """The scores of all models on one task; `None` for a model that could not run it.

    relative: whether differences are relative changes; if so, lower is better. disagreeing: how many items have
    different outcomes; disagreements: the items whose outcomes differ most. groups: the groups whose scores differ
    most, each with the primary metric by model.
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
    """Compare the scores of several models on one task. `corrected` must still correct the p-values."""
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
    """The same comparisons, with p-values corrected for the number of comparisons over all tasks (Holm)."""
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
    """The primary metric of each item."""
    if task.kind.ratio is None:
        return np.array([one.get(task.metric, 0.0) for one in score.outcomes])
    total, size = task.kind.ratio
    return np.array([one[total] / one[size] for one in score.outcomes])


def _largest(spread: Array, count: int) -> list[int]:
    """Indices of the largest values above zero; of equal values, a selection spread evenly over the task."""
    order = np.argsort(-spread, kind="stable")[: (spread > 0).sum()]
    if len(order) > count:
        least = spread[order[count - 1]]
        above, equal = order[spread[order] > least], order[spread[order] == least]
        order = np.concatenate([above, equal[np.arange(count - len(above)) * len(equal) // (count - len(above))]])
    return [int(index) for index in order]


def _groups(task: Task, scores: Sequence[TaskScore | None]) -> list[tuple[str, tuple[float | None, ...]]]:
    """The groups whose scores differ most, in descending order of the difference."""
    sizes = Counter(example.group for example in task.examples)
    known = next((list(score.groups) for score in scores if score is not None), [])
    names = [name for name in known if sizes[name] >= LEAST_IN_GROUP]
    rows = [(name, tuple(None if score is None else score.groups[name] for score in scores)) for name in names]

    def spread(row: tuple[str, tuple[float | None, ...]]) -> float:
        values = [value for value in row[1] if value is not None]
        return max(values) - min(values)

    return sorted((row for row in rows if spread(row) > 0), key=lambda row: -spread(row))[:SHOWN_GROUPS]
