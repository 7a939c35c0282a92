"""How many updates fit into a time: a few are tried on a copy of the model, and timed."""

import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from tinyslm.model.decoder import Decoder
from tinyslm.training.config import RunConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.objectives import Objective
from tinyslm.training.optimizers import Optimizers

WARM_UP = 2
SHARE_OF_TIME = 0.02
FEWEST, MOST = 4, 20


def seconds_per_step(
    model: Decoder, objective: Objective, batch: Tensor, config: RunConfig, settings: StepSettings
) -> float:
    """The median time of an update, measured for about 2 % of the run's minutes; model and generators stay as they
    are."""
    trial = copy.deepcopy(model)
    if config.train.compile:
        trial.model.compile()  # a copy is not compiled, even of a model that is
    optimizers = Optimizers(trial, config.optimizer)
    limit = time.monotonic() + config.train.minutes * 60 * SHARE_OF_TIME
    times: list[float] = []
    with torch.random.fork_rng():
        before = time.monotonic()
        for _ in train_steps(trial, objective, lambda: batch, optimizers, settings):
            now = time.monotonic()
            times.append(now - before)
            before = now
            measured = len(times) - WARM_UP
            if measured >= MOST or (measured >= FEWEST and now > limit):
                break
    return median(times[WARM_UP:])


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
