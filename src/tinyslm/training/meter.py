"""The mean loss and the speed between two rows of the log."""

import math

from tinyslm.training.loop import StepReport


class Meter:
    """Mean loss and tokens per second since they were last read."""

    def __init__(self, tokens: int, seconds: float) -> None:
        self._tokens, self._seconds = tokens, seconds
        self._losses: list[float] = []
        self._last = math.nan

    def add(self, report: StepReport) -> None:
        """Take the loss of an update."""
        self._losses.append(report.loss)

    def read(self, tokens: int, seconds: float) -> tuple[float, float]:
        """Mean loss (the last known one if every update was skipped), and the rate."""
        if self._losses:
            self._last = sum(self._losses) / len(self._losses)
        rate = (tokens - self._tokens) / max(1e-9, seconds - self._seconds)
        self._tokens, self._seconds, self._losses = tokens, seconds, []
        return self._last, rate
