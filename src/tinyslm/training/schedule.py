"""The learning rate over a run, as a share of its peak."""

from tinyslm.training.config import ScheduleConfig


def lr_scale(position: float, config: ScheduleConfig) -> float:
    """Share of the peak learning rate at a position in the run, from 0 to 1: warm-up, stable, decay.

    An update's position is that of its middle (`Timetable.position(step + 0.5)`): the first one is not wasted on a rate
    of zero, and the last still learns a little.
    """
    share = 1.0
    if config.warmup:
        share = min(share, position / config.warmup)
    if config.decay:
        left = min(1.0, (1 - position) / config.decay)
        share = min(share, config.final + (1 - config.final) * left)
    return share
