"""How fast this machine is at what a run does: everything is tried for a moment before the run begins, and timed."""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tinyslm.core.files import disk_error
from tinyslm.data.shards import Shards
from tinyslm.evaluation.loss import mean_loss
from tinyslm.model.decoder import Decoder
from tinyslm.training.budget import VALIDATIONS, Costs
from tinyslm.training.checkpoint import save_weights
from tinyslm.training.compiling import Compiling, Timing, choose, compile_model, compile_native
from tinyslm.training.config import RunConfig
from tinyslm.training.looking import QUICK_TOKENS, quick_windows, sample_text, uncompiled
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.objectives import Objective
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.report import CURVES, try_drawing
from tinyslm.training.validation import spread_tokens

WARM_UP = 1
SHARE_OF_TIME = 0.02
FEWEST, MOST = 3, 20
"""Updates that are timed: few where they are slow, since the run corrects its plan by itself."""

SCORING_SHARE = 0.1
"""The final score takes at most about this share of a run's time."""
MOST_SCORED = 1_000_000
"""It looks at about so many tokens, and no more."""
VALIDATING_SHARE = 0.03
"""All quick validations together take at most about this share, unless it is too little to tell models apart."""
FEWEST_VALIDATED = 8192
TRIED_TOKENS = 8192

RAGGED = 1.2
"""The final score takes so much longer a token than the quick validation in fp32: its windows end with documents."""
LEAVING = 0.3
"""Seconds that the program takes to end after its report."""
CHECKPOINT_SIZE = 3.0
"""Of a checkpoint, in weights: they themselves, and what the optimizers keep for each of them."""


def measured(
    model: Decoder,
    objective: Objective,
    batch: Tensor,
    shards: Shards,
    config: RunConfig,
    settings: StepSettings,
    folder: Path,
) -> tuple[Costs, Compiling, dict[str, Any]]:
    """What the parts of a run cost here, whether its updates are compiled, and the settings that follow from both.

    Model and random generators stay as they are; what is written on trial, in `folder`, is removed.
    """
    seconds = (config.train.minutes or 0.0) * 60
    if batch.device.type == "cpu":
        compile_native(settings.dtype)  # so that no compilation is timed below

    def measure(compiled: bool) -> Timing:
        trial = copy.deepcopy(model)
        if compiled:
            compile_model(trial)
        return time_updates(trial, objective, batch, config, settings, seconds * SHARE_OF_TIME)

    compiling, update = choose(config, batch.device, settings.dtype, measure)
    windows = quick_windows(shards, config)
    some = windows[: max(1, TRIED_TOKENS // config.model.context)].to(batch.device)
    with uncompiled():
        look = timed(lambda: mean_loss(model, some, settings.dtype)) / some[:, 1:].numel()
        score = RAGGED * timed(lambda: mean_loss(model, some, torch.float32)) / some[:, 1:].numel()
    often = seconds * VALIDATING_SHARE / VALIDATIONS
    looked = config.train.validation_tokens or min(QUICK_TOKENS, max(FEWEST_VALIDATED, int(often / look)))
    scored = config.train.score_tokens or min(MOST_SCORED, max(QUICK_TOKENS, int(seconds * SCORING_SHARE / score)))
    validation = look * min(looked, windows[:, 1:].numel())
    weights = _time_writing(model, folder)
    sample_text(model, shards, config)  # compiles the engine's step where it never was
    costs = Costs(
        update=update,
        validation=validation,
        weights=weights,
        sample=timed(lambda: sample_text(model, shards, config)),
        checkpoint=CHECKPOINT_SIZE * weights,
        scoring=score * spread_tokens(shards.split("valid"), scored) / validation,
        report=len(CURVES) * timed(try_drawing()) + LEAVING,
    )
    decided = {"validation_tokens": looked, "score_tokens": scored, "compile": "on" if compiling.on else "off"}
    return costs, compiling, decided


def time_updates(
    model: Decoder, objective: Objective, batch: Tensor, config: RunConfig, settings: StepSettings, limit: float
) -> Timing:
    """The median time of an update after the first one, measured for about `limit` seconds; they change the model."""
    optimizers = Optimizers(model, config.optimizer)
    end = math.inf
    times: list[float] = []
    with torch.random.fork_rng():
        before = time.monotonic()
        for _ in train_steps(model, objective, lambda: batch, optimizers, settings):
            now = time.monotonic()
            times.append(now - before)
            before = now
            tried = len(times) - WARM_UP
            end = now + limit if tried == 0 else end
            if tried >= MOST or (tried >= FEWEST and now > end):
                break
    usual = median(times[WARM_UP:])
    return Timing(usual, max(0.0, sum(times[:WARM_UP]) - WARM_UP * usual))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _time_writing(model: Decoder, folder: Path) -> float:
    """Seconds for writing the weights into `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".trial.", suffix=".tmp") as place:
            return timed(lambda: save_weights(Path(place) / "weights", model))
    except OSError as error:
        raise disk_error(folder, error) from error
