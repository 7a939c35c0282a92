"""Plain arithmetic of time: how many updates fit into what is left, and when to count again. No clock is read here."""

from dataclasses import dataclass, replace

from tinyslm.training.config import LoopConfig
from tinyslm.training.timetable import Correction, reached

VALIDATIONS, SAMPLES = 10, 5
"""How many there are in a run whose settings do not say."""

POINTS = (0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.98)
"""Where the number of updates is set anew.

Early, because the plan was made from a few cold updates; then every tenth, so that the learning rate bends a little
and often instead of much and late; and close together at the end, because nobody corrects what happens after the last
point: even a machine that halves its speed there is late by only 2 %.
"""

LATE = 0.02
"""A run that is behind its plan by this share of its time is corrected at once, wherever it is."""

LARGEST_JUMP = 3.0
"""A single measurement counts at most as so many times the old one: what happened once need not happen again."""


@dataclass(frozen=True)
class Costs:
    """Seconds that the parts of a run take on this machine, as they were last seen.

    update: one update, with its share of logging. validation: the quick one. weights: writing the model's weights.
    sample, checkpoint: each of them. scoring: the final score, in validations. report: writing it, and leaving.
    """

    update: float
    validation: float
    weights: float
    sample: float
    checkpoint: float
    scoring: float
    report: float

    @property
    def ending(self) -> float:
        """What comes after the last update: checkpoint, reading the best weights, score, model folder, report."""
        return self.checkpoint + self.scoring * self.validation + 2 * self.weights + self.report

    def seen(self, part: str, seconds: float, weight: float = 0.5) -> "Costs":
        """The costs after another measurement of a part, which counts for `weight` beside the older ones."""
        old = getattr(self, part)
        seconds = min(seconds, LARGEST_JUMP * old) if old else seconds
        return replace(self, **{part: (1 - weight) * old + weight * seconds})

    def updated(self, seconds: float, steps: int) -> "Costs":
        """The costs after an update of a run of `steps`.

        A single update is noisy, and counts less where there are many. It tells how fast the machine is at present:
        what is seen more seldom, or only at the end, becomes dearer or cheaper with it.
        """
        after = self.seen("update", seconds, min(0.5, max(0.05, 5 / steps)))
        speed = after.update / self.update
        others = {
            part: speed * getattr(self, part) for part in ("validation", "weights", "sample", "checkpoint", "report")
        }
        return replace(after, **others)


def fitting_steps(seconds: float, position: float, costs: Costs, train: LoopConfig) -> int:
    """How many updates fit between a position and the run's end, which is `seconds` away; at least one."""
    per_step = costs.update
    for cost, every, count in (
        (costs.validation + costs.weights, train.validate_every, VALIDATIONS),
        (costs.sample, train.sample_every, SAMPLES),
    ):
        per_step += cost / every if every else 0
        seconds -= 0 if every else cost * (count - reached(position, count))
    seconds -= costs.ending
    if train.checkpoint_minutes:
        seconds /= 1 + costs.checkpoint / (60 * train.checkpoint_minutes)
    else:
        per_step += costs.checkpoint
    return max(1, round(seconds / per_step))


def is_due(position: float, seconds: float, last: Correction, budget: float, costs: Costs) -> bool:
    """Whether the number of updates is to be set anew at a position, `seconds` into a run that may take `budget`.

    last: the correction before, or the plan as if it were one.
    """
    if any(last.position < point <= position for point in POINTS):
        return True
    share = (position - last.position) / (1 - last.position)
    expected = last.seconds + share * (budget - costs.ending - last.seconds)
    return seconds > expected + LATE * budget
