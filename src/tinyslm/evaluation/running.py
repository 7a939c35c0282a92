"""Run tasks on a model: scores with intervals, chance levels, and the outcome of every item."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinyslm.core.errors import TinyslmError
from tinyslm.data.ngrams import overlapping
from tinyslm.evaluation.answers import Answers, answer_all
from tinyslm.evaluation.continuations import Reading, TextScorer, score_continuations
from tinyslm.evaluation.intervals import Estimate, mean_estimate, ratio_interval
from tinyslm.evaluation.overlap import Overlap
from tinyslm.evaluation.protocols import Generator, Scorer
from tinyslm.evaluation.tasks.task import Outcome, Task
from tinyslm.inference.request import Completion

Progress = Callable[[str, int, int], None]
Array = Any


@dataclass(frozen=True)
class Subject:
    """A model under evaluation.

    scorer, generator: the runtime; `None` where it cannot score or generate. reading: how the model reads texts.
    """

    name: str
    scorer: Scorer | TextScorer | None
    generator: Generator | None
    reading: Reading


@dataclass(frozen=True)
class TaskScore:
    """The score of a model on a task.

    metric, value, low, high: the primary metric, its mean and its 95 % bootstrap interval over the items. chance: the
    expected score of guessing; above_chance: whether the whole interval is above it; both `None` for tasks without a
    chance level. metrics: all metrics of the task. groups: the primary metric by group. dropped: how many rows were
    skipped. truncated: how many items were cut on the left to fit the context. overlap: see `overlap`. tokens: scored
    or generated. seeds: how often each item was answered; seed_spread: the standard deviation of the score over seeds.
    outcomes: by item, means over the seeds. answers: by item, what the model wrote or preferred.
    """

    task: str
    kind: str
    metric: str
    value: float
    low: float
    high: float
    chance: float | None
    above_chance: bool | None
    items: int
    dropped: int
    truncated: int
    seconds: float
    tokens: int
    seeds: int = 1
    seed_spread: float = 0.0
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    groups: Mapping[str, float] = field(default_factory=dict)
    overlap: Overlap | None = None
    source: str = ""
    notes: Sequence[str] = ()
    ids: Sequence[str] = field(default_factory=tuple, repr=False)
    outcomes: Sequence[Outcome] = field(default_factory=tuple, repr=False)
    answers: Sequence[str] = field(default_factory=tuple, repr=False)

    @property
    def centred(self) -> float | None:
        """The value rescaled so that chance is 0 and a perfect score is 1; `None` without a chance level."""
        return None if self.chance is None else (self.value - self.chance) / (1 - self.chance)


def run_task(
    subject: Subject,
    task: Task,
    *,
    seeds: int = 1,
    constrained: bool = False,
    progress: Progress = lambda *_: None,
) -> TaskScore:
    """Score one model on one task.

    seeds: how often each item is answered where answers are sampled, with the seeds 0, 1, and so on. constrained:
    answers must follow the constraints of the items that have one. Raises `TinyslmError` if the runtime does not
    support what the task needs.
    """
    begun = time.perf_counter()
    rounds: list[list[Outcome]] = []
    texts: Sequence[str] = ()
    notes: Sequence[str] = ()
    if task.kind.generates:
        if subject.generator is None:
            raise TinyslmError(f"{subject.name} cannot generate text.", f"Leave out the task {task.name}.")
        sampled = not task.sampling.greedy
        tokens = truncated = 0
        for seed in range(seeds if sampled else 1):
            settings = task.sampling.model_copy(update={"seed": seed}) if sampled else task.sampling
            found: Answers = answer_all(
                subject.generator, subject.reading, task.examples, settings, progress, constrained=constrained
            )
            rounds.append([one.outcome(answer) for one, answer in zip(task.examples, found.completions, strict=True)])
            tokens += sum(answer.tokens for answer in found.completions)
            truncated, notes = found.truncated, found.notes
            texts = texts or [answer.text for answer in found.completions]
    else:
        if subject.scorer is None:
            raise TinyslmError(
                f"{subject.name} does not report the probabilities of texts.",
                f"Leave out the task {task.name}, or use another model.",
            )
        asked = [example.continuations() for example in task.examples]
        flat = [one for several in asked for one in several]
        scores = iter(score_continuations(subject.scorer, subject.reading, flat, progress))
        mine = [[next(scores) for _ in several] for several in asked]
        rounds.append([example.outcome(some) for example, some in zip(task.examples, mine, strict=True)])
        texts = [example.answer(some, task.metric) for example, some in zip(task.examples, mine, strict=True)]
        tokens = sum(score.tokens for some in mine for score in some)
        truncated = sum(any(score.cut for score in some) for some in mine)
    return _summary(
        task,
        rounds,
        seconds=time.perf_counter() - begun,
        tokens=tokens,
        truncated=truncated,
        notes=tuple(notes),
        answers=tuple(texts),
    )


def score_answers(task: Task, answers: Sequence[str], seconds: float = 0.0) -> TaskScore:
    """Score texts that a program wrote as answers to the items of a task, in their order."""
    completions = [Completion(text, "stop", 0) for text in answers]
    outcomes = [one.outcome(answer) for one, answer in zip(task.examples, completions, strict=True)]
    return _summary(task, [outcomes], seconds=seconds, tokens=0, truncated=0, notes=(), answers=tuple(answers))


def with_overlap(
    tasks: Sequence[Task], scores: Sequence[TaskScore | None], training: Iterable[str]
) -> list[TaskScore | None]:
    """Add to each score the overlap of its task's items with the training texts, which are read once."""
    scored = [task for task, score in zip(tasks, scores, strict=True) if score is not None]
    texts = [example.text for task in scored for example in task.examples]
    found, checked = overlapping(texts, training)
    done = 0
    finished: list[TaskScore | None] = []
    for task, score in zip(tasks, scores, strict=True):
        if score is None:
            finished.append(score)
            continue
        mine = slice(done, done + len(task.examples))
        done = mine.stop
        finished.append(_with_overlap(task, score, found[mine], checked[mine]))
    return finished


def _with_overlap(task: Task, score: TaskScore, found: Array, checked: Array) -> TaskScore:
    without: float | None = None
    if not task.kind.ratio and not found.all():
        without = float(np.mean([one[score.metric] for one, hit in zip(score.outcomes, found, strict=True) if not hit]))
    return replace(score, overlap=Overlap(int(found.sum()), int(checked.sum()), without))


def centred_mean(scores: Sequence[TaskScore]) -> float | None:
    """The mean of `TaskScore.centred` over the tasks with a chance level; `None` if there are none."""
    found = [score.centred for score in scores if score.centred is not None]
    return sum(found) / len(found) if found else None


def _summary(task: Task, rounds: Sequence[Sequence[Outcome]], **about: Any) -> TaskScore:
    names = list(dict.fromkeys(name for outcomes in rounds for one in outcomes for name in one))
    values = {
        name: np.array([[one.get(name, 0.0) for one in outcomes] for outcomes in rounds], np.float64) for name in names
    }  # [seeds, items]
    if task.kind.ratio:
        totals, sizes = (values[name][0] for name in task.kind.ratio)
        metrics = {task.metric: Estimate(float(totals.sum() / sizes.sum()), *ratio_interval(totals, sizes))}
    else:
        metrics = {name: mean_estimate(value.mean(0)) for name, value in values.items()}
    quoted_one, chance = metrics[task.metric], task.chance
    by_seed = values[task.metric].mean(1) if task.metric in values else np.zeros(1)
    return TaskScore(
        task=task.name,
        kind=task.kind.name,
        metric=task.metric,
        value=quoted_one.value,
        low=quoted_one.low,
        high=quoted_one.high,
        chance=chance,
        above_chance=None if chance is None else quoted_one.low > chance,
        items=len(task.examples),
        dropped=task.dropped,
        seeds=len(rounds),
        seed_spread=float(by_seed.std(ddof=1)) if len(rounds) > 1 else 0.0,
        metrics=metrics,
        groups=_groups(task, values),
        source=task.source,
        ids=tuple(example.id for example in task.examples),
        outcomes=tuple(
            {name: float(value[:, index].mean()) for name, value in values.items()}
            for index in range(len(task.examples))
        ),
        **about,
    )


def _groups(task: Task, values: Mapping[str, Array]) -> dict[str, float]:
    """The mean of the primary metric by group; empty if there is only one group."""
    if task.metric not in values:
        return {}
    means, found = values[task.metric].mean(0), {}
    places: dict[str, list[int]] = {}
    for index, example in enumerate(task.examples):
        places.setdefault(example.group, []).append(index)
    for group, mine in sorted(places.items()):
        found[group] = float(means[mine].mean())
    return found if len(found) > 1 else {}
