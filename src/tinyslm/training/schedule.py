"""The learning rate over a run, as a share of its peak."""

from tinyslm.training.config import ScheduleConfig


def learning_rate_share(step: int, steps: int, config: ScheduleConfig) -> float:
    """Share of the peak learning rate for update `step` (from 0) of `steps`: warm-up, stable, decay.

    The first update is not wasted on a rate of zero, and the last still learns a little:
    both ramps are taken at the middle of a step.
    """
    position = (step + 0.5) / steps
    share = 1.0
    if config.warmup:
        share = min(share, position / config.warmup)
    if config.decay:
        left = min(1.0, (1 - position) / config.decay)
        share = min(share, config.final + (1 - config.final) * left)
    return share
