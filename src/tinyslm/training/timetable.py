"""Where a run stands between its beginning (0) and its end (1), though its number of updates may change on the way.

Learning rate, validations and samples follow this position, not the number of the update. It is linear in the updates
between two corrections and never jumps, so that after a correction the rest of the schedule covers what is left.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Correction:
    """After update `step`, where the run stood at `position`, it was given `steps` updates in all.

    seconds: how long the run had taken by then.
    """

    step: int
    position: float
    steps: int
    seconds: float


@dataclass(frozen=True)
class Timetable:
    """The planned number of updates, and its corrections in order."""

    planned: int
    corrections: tuple[Correction, ...] = ()

    @property
    def steps(self) -> int:
        """Updates in the whole run, as it is known now."""
        return self.corrections[-1].steps if self.corrections else self.planned

    def position(self, step: float) -> float:
        """The share of the run that is over after `step` updates (halves are the middle of an update)."""
        for correction in reversed(self.corrections):
            if correction.step <= step:
                left = (step - correction.step) / (correction.steps - correction.step)
                return correction.position + (1 - correction.position) * left
        return step / self.planned

    def passes(self, step: int, points: int) -> bool:
        """Whether update `step` comes to one of `points` evenly spread points of the run; the end is one of them."""
        if step == self.steps:
            return True
        return reached(self.position(step), points) > reached(self.position(step - 1), points)


def reached(position: float, points: int) -> int:
    """How many of `points` evenly spread points are over at a position."""
    return int(position * points + 1e-9)
