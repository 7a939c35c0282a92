"""Measure before a fine-tuning run: the base model, for the verdict, and the time of each part of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tinyslm.core.config import build_config, merge
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.decoder import Decoder
from tinyslm.planning.finetuning_plan import (
    ANSWERING_SHARE,
    FEWEST_SCORED,
    FEWEST_VALIDATED,
    MEASURING_SHARE,
    REPORT_SECONDS,
    VALIDATING_SHARE,
    FinetuningPlan,
    Measured,
    batch_rows,
    fitting_updates,
    length,
    looked_at,
    micro_batch_of,
    open_settings,
    run_seconds,
    samples_on_the_way,
)
from tinyslm.planning.judging import Before, Measurement
from tinyslm.training.compiling import compile_native
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import DISK_RATE, Rates
from tinyslm.training.finetuning_memory import free_bytes, peak_bytes
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.pipeline import Watch
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.stage import Batch, Stage
from tinyslm.training.stages import first_model, open_stage
from tinyslm.training.world import World

WARM_UP, TIMED = 1, 3
"""The number of updates before the timed ones, and the maximum number of timed ones."""
TIMING_SHARE = 0.04
"""Share of a run's time for the timed updates."""
TRIED_TOKENS = 1024
"""Held-out tokens for timing a validation."""


@dataclass(frozen=True)
class Rehearsed:
    """The results of `rehearse`. rates: the times that the run needs to end on time."""

    plan: FinetuningPlan
    before: Before
    rates: Rates


def measure_first(
    folder: RunFolder,
    data: Path,
    config: RunConfig,
    given: Mapping[str, Any],
    *,
    rows: int,
    began: float,
    watch: Watch,
) -> tuple[RunConfig, Rates | None]:
    """Measure the base before a run in `folder`; for a run with a time limit and one process, also `rehearse` it.

    Returns the settings of the run, and the times that it needs to end on time, if measured.
    """
    measurement, world = Measurement.of(config), World.current()
    if config.train.minutes and world.size == 1 and config.train.compile == "off":
        watch.event({"event": "measuring"})
        ready = rehearse(data, config, measurement, given, rows=rows, began=began)
        watch.event({"event": "planned", "plan": ready.plan})
        ready.before.write(folder.path)
        return ready.plan.config, ready.rates
    if world.leads:
        watch.event({"event": "measuring"})
        measure_base(data, config, measurement).write(folder.path)
    return config, None


def measure_base(data: Path, config: RunConfig, measurement: Measurement) -> Before:
    """Measure the base for the verdict, without timing."""
    stage, config, model = _opened(data, config)
    return Before.take(replace(measurement, tokens=config.train.score_tokens), model, stage, config)


def rehearse(
    data: Path,
    config: RunConfig,
    measurement: Measurement,
    given: Mapping[str, Any],
    *,
    rows: int,
    began: float,
) -> Rehearsed:
    """Measure the base and the machine, and plan the run.

    config: the settings; unless they are in `given`, the plan chooses the batch, the number of held-out tokens and
    samples, and the length. rows: per epoch, 0 if there are no epochs. began: start of the work, by `time.monotonic`.
    """
    loading = time.monotonic()
    stage, config, model = _opened(data, config)
    loading = time.monotonic() - loading
    seconds = 60 * config.train.minutes if config.train.minutes else math.inf
    per_token = _validation_rate(model, stage, config)
    config = _budgeted(config, seconds, per_token, given)
    before, measuring = _timed(
        lambda: Before.take(
            replace(measurement, tokens=config.train.score_tokens),
            model,
            stage,
            config,
            seconds=ANSWERING_SHARE * seconds,
        )
    )
    sample = _timed(lambda: stage.sample(model, config.train.seed))[1]
    update, tokens = _update(model, stage, config, TIMING_SHARE * seconds)
    saving = loading + 8 * config.model.parameters / DISK_RATE
    measured = Measured(
        spent=time.monotonic() - began + loading,
        update=update,
        tokens=tokens,
        validation=per_token * min(config.train.validation_tokens, stage.held_out_tokens),
        sample=sample,
        ending=measuring + saving + REPORT_SECONDS,
    )
    plan = _planned(config, measured, seconds, rows, given)
    update *= plan.config.train.batch / config.train.batch
    scoring = measuring / max(1, min(config.train.score_tokens, stage.held_out_tokens))
    return Rehearsed(plan, before, Rates(update, per_token, scoring))


def _opened(data: Path, config: RunConfig) -> tuple[Stage, RunConfig, Decoder]:
    stage, config = open_stage(data, config, World())
    torch.manual_seed(config.train.seed)
    model = first_model(config, pick_device(config.train.device))
    model.model.recompute = config.train.checkpoint_activations
    return stage, config, model


def _validation_rate(model: Decoder, stage: Stage, config: RunConfig) -> float:
    """Seconds per held-out token of a validation."""
    device = pick_device(config.train.device)
    dtype = pick_dtype(device, config.train.dtype)
    if device.type == "cpu":
        compile_native(dtype)  # before timing
    stage.validate(model, dtype, 1)
    tokens = min(TRIED_TOKENS, stage.held_out_tokens)
    return _timed(lambda: stage.validate(model, dtype, tokens))[1] / tokens


def _budgeted(config: RunConfig, seconds: float, per_token: float, given: Mapping[str, Any]) -> RunConfig:
    """The settings with the number of held-out tokens that there is time for."""
    train, chosen = config.train, dict[str, int]()
    if math.isfinite(seconds) and open_settings(given, "train", "validation_tokens"):
        share = VALIDATING_SHARE / 10
        chosen["validation_tokens"] = looked_at(
            seconds, share, per_token, fewest=FEWEST_VALIDATED, most=train.validation_tokens
        )
    if math.isfinite(seconds) and open_settings(given, "train", "score_tokens"):
        chosen["score_tokens"] = looked_at(
            seconds, MEASURING_SHARE, per_token, fewest=FEWEST_SCORED, most=train.score_tokens
        )
    return build_config(RunConfig, merge(config.model_dump(), {"train": chosen}))


def _update(model: Decoder, stage: Stage, config: RunConfig, seconds: float) -> tuple[float, int]:
    """The median time of an update, and its tokens; changes the model. seconds: approximate time for this measurement.

    If whole updates would take longer, only some rows of them are timed.
    """
    train, device = config.train, pick_device(config.train.device)
    dtype = pick_dtype(device, train.dtype)
    at_once = train.micro_batch or train.batch
    settings = StepSettings(WARM_UP + TIMED, at_once, config.optimizer.clip, dtype, lambda _: 1.0)
    optimizers = Optimizers(model, config.optimizer, keep_gradients=train.checkpoint_activations)
    place, rows, times, tokens = stage.batches.state(), 1, list[float](), list[int]()

    def some_rows() -> Batch:
        return next(stage.batches.next(model).to(device).split(rows))

    begun = before = time.monotonic()
    for report in train_steps(model, stage.loss, some_rows, optimizers, settings):
        now = time.monotonic()
        times.append(now - before)
        tokens.append(report.tokens)
        before = now
        if len(times) == WARM_UP:  # the warm-up has one row, the timed updates as many as there is time for
            rows = int(max(1, min(train.batch, seconds / 2 / times[0])))
        elif now - begun > seconds:
            break
    stage.batches.restore(place)
    scale = train.batch / rows
    return scale * median(times[WARM_UP:]), int(scale * max(tokens[WARM_UP:]))


def _planned(
    config: RunConfig, measured: Measured, seconds: float, rows: int, given: Mapping[str, Any]
) -> FinetuningPlan:
    """Choose settings and length by the measured times."""
    train, chosen, why = config.train, dict[str, Any](), ""
    samples = samples_on_the_way(seconds, measured.sample) if math.isfinite(seconds) else 5
    steps = train.steps or math.ceil(train.tokens / (train.batch * config.row_tokens))
    batch = train.batch
    if train.minutes:
        affordable = fitting_updates(measured, seconds, samples) * train.batch * config.row_tokens
        if open_settings(given, "train", "batch", "micro_batch"):
            batch = batch_rows(train.batch, config.row_tokens, affordable)
            chosen |= {"batch": batch, "micro_batch": micro_batch_of(batch, train.micro_batch or train.batch)}
        measured = replace(measured, update=measured.update * batch / train.batch)
        steps, why = length(fitting_updates(measured, seconds, samples), rows, batch)
        if why:
            chosen |= {"minutes": None, "steps": steps}
        if open_settings(given, "train", "sample_every"):
            chosen["sample_every"] = max(1, steps // samples)
    config = build_config(RunConfig, merge(config.model_dump(), {"train": chosen}))
    expected = run_seconds(measured, steps, samples) if why or not train.minutes else seconds
    return FinetuningPlan(config, measured, rows, steps, expected, peak_bytes(config), free_bytes(config), why)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Call `work`. Returns its result and its duration in seconds."""
    begun = time.monotonic()
    return work(), time.monotonic() - begun
