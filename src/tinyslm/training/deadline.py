"""Ending on time: how many updates a run makes, and when that number is corrected.

A run with a time (`train.minutes`) starts with a number of updates that fits, and corrects it as it sees how fast it
really is. Every decision is written to `deadline.json` in the run folder before it takes effect, so a run that was
killed and resumes from an earlier checkpoint repeats it, whatever the clock says by then.

Learning rate, validations and samples follow the position in the run, from 0 to 1, not the number of the update. The
position is linear in the updates between two corrections and never jumps.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tinyslm.core.files import disk_error, write_json
from tinyslm.core.json_files import read_json
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import state_tensors
from tinyslm.model.weights import write_tensors
from tinyslm.training.compiling import Compiling, Timing, choose, compile_model, compile_native, uncompiled
from tinyslm.training.config import LoopConfig, RunConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.sharding import is_sharded, own_rows, whole_model
from tinyslm.training.stage import Batch, Stage
from tinyslm.training.world import World

VALIDATIONS, SAMPLES = 10, 5
"""How many there are in a run whose settings do not say."""

POINTS = (0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.98)
"""Positions at which the number of updates is corrected.

Early, because the first number comes from an estimate; then every tenth, so that the learning rate bends a little and
often; and close together at the end, because nothing corrects what happens after the last point: even a machine that
halves its speed there is late by only 2 %.
"""
LATE = 0.02
"""A run that is behind by this share of its time is corrected at once, wherever it is."""
LARGEST_JUMP = 3.0
"""A single measurement counts at most as so many times the old one: what happened once need not happen again."""

QUICK_TOKENS, FEWEST_VALIDATED = 32_768, 8192
"""Held-out tokens of a validation on the way: the most, and the fewest that still tell models apart."""
VALIDATING_SHARE = 0.03
"""All validations on the way together take at most about this share of a run's time."""
MOST_SCORED = 1_000_000
"""Held-out tokens of the final score, at most."""
SCORING_SHARE = 0.1
"""The final score takes at most about this share of a run's time."""

WARM_UP, FEWEST, MOST = 1, 3, 20
"""Updates before the timed ones, and how many of these: few where they are slow, as the run corrects its plan."""
SHARE_OF_TIME = 0.02
"""What timing them may take of a run's time."""
FETCHED = 2
"""Batches that are timed."""
TRIED_TOKENS = 8192
RAGGED = 1.2
"""The final score takes so much longer per token than a validation in fp32: its windows end with documents."""
CHECKPOINT_SIZE = 3.0
"""Of a checkpoint, in weights: they themselves, and what the optimizers keep for each of them."""
DISK_RATE = 5e8
"""Bytes per second that a disk is assumed to write until the first writing was timed."""
REPORT_SECONDS = 3.0
"""For a process that draws the report, and for leaving."""
SAMPLE_SECONDS = 0.5
"""For a sample, until the first one was timed."""


@dataclass(frozen=True)
class Correction:
    """After update `step`, at `position` and `seconds` into the run, its updates became `steps` in all."""

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
        """Updates in the whole run, as far as is known now."""
        return self.corrections[-1].steps if self.corrections else self.planned

    def position(self, step: float) -> float:
        """The share of the run that is over after `step` updates (halves are the middle of an update)."""
        for correction in reversed(self.corrections):
            if correction.step <= step:
                left = (step - correction.step) / (correction.steps - correction.step)
                return correction.position + (1 - correction.position) * left
        return step / self.planned

    def passes(self, step: int, points: int, power: float = 1.0) -> bool:
        """Whether update `step` reaches one of `points` points of the run; the end is one of them.

        They lie at `(i / points) ** power` of the run: evenly spread, or closer together at its start.
        """
        if step == self.steps:
            return points > 0
        now, before = (reached(self.position(one) ** (1 / power), points) for one in (step, step - 1))
        return now > before


def reached(position: float, points: int) -> int:
    """How many of `points` evenly spread points are over at a position."""
    return int(position * points + 1e-9)


@dataclass(frozen=True)
class RunCosts:
    """Seconds that the parts of a run take on this machine, as last seen.

    update: one update, with its share of logging. validation: one on the way. weights: writing the model's weights.
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

    def seen(self, part: str, seconds: float, weight: float = 0.5) -> "RunCosts":
        """The costs after another measurement of a part, which counts for `weight` against the older ones."""
        old = getattr(self, part)
        seconds = min(seconds, LARGEST_JUMP * old) if old else seconds
        return replace(self, **{part: (1 - weight) * old + weight * seconds})

    def updated(self, seconds: float, steps: int) -> "RunCosts":
        """The costs after an update of a run of `steps`.

        A single update is noisy, and counts less where there are many. It shows how fast the machine is at present, so
        the parts that are seen less often, or only at the end, are scaled with it.
        """
        after = self.seen("update", seconds, min(0.5, max(0.05, 5 / steps)))
        speed = after.update / self.update
        others = {
            part: speed * getattr(self, part) for part in ("validation", "weights", "sample", "checkpoint", "report")
        }
        return replace(after, **others)


def fitting_steps(seconds: float, position: float, costs: RunCosts, train: LoopConfig) -> int:
    """How many updates fit between a position and the run's end, which is `seconds` away; at least one."""
    per_step = costs.update
    for cost, every, count in (
        (costs.validation + costs.weights, train.validate_every, VALIDATIONS),
        (costs.sample, train.sample_every, SAMPLES),
        (costs.weights, 0, train.snapshots),
    ):
        per_step += cost / every if every else 0
        seconds -= 0 if every else cost * (count - reached(position, count))
    seconds -= costs.ending
    if train.checkpoint_minutes:
        seconds /= 1 + costs.checkpoint / (60 * train.checkpoint_minutes)
    else:
        per_step += costs.checkpoint
    return max(1, round(seconds / per_step))


def is_due(position: float, seconds: float, last: Correction, budget: float, costs: RunCosts) -> bool:
    """Whether the number of updates is to be corrected at a position, `seconds` into a run that may take `budget`.

    last: the correction before, or the plan as if it were one.
    """
    if any(last.position < point <= position for point in POINTS):
        return True
    share = (position - last.position) / (1 - last.position)
    expected = last.seconds + share * (budget - costs.ending - last.seconds)
    return seconds > expected + LATE * budget


@dataclass(frozen=True)
class Decisions:
    """The content of `deadline.json`.

    steps: planned at the start, `seconds` into the run (preparing the text included). costs: as known then. compiling:
    whether updates are compiled.
    """

    steps: int
    seconds: float
    costs: RunCosts
    corrections: tuple[Correction, ...] = ()
    compiling: Compiling | None = None

    @classmethod
    def read(cls, file: Path) -> "Decisions":
        """What `write` stored. Raises `TinyslmError` for a file that holds none."""
        return read_json(file, cls, remedy="Restore it from a copy, or start a new run with another --out.")

    def write(self, file: Path) -> None:
        """Store them, whole or not at all."""
        write_json(file, asdict(self))


class Deadline:
    """Decides the corrections of a run that may take `train.minutes`. `decisions`: those so far."""

    def __init__(self, file: Path, decisions: Decisions, train: LoopConfig) -> None:
        assert train.minutes, "only a run with a time has a deadline"
        self.decisions = decisions
        self._file = file
        self._train = train
        self._budget = train.minutes * 60

    def correct(
        self, step: int, seconds: float, costs: RunCosts, corrections: tuple[Correction, ...]
    ) -> Correction | None:
        """What is decided after update `step`, `seconds` into the run, after `corrections`; None: nothing now."""
        decided = self.decisions.corrections[len(corrections) :]
        if decided:  # before the run was interrupted
            return decided[0] if decided[0].step == step else None
        last = corrections[-1] if corrections else Correction(0, 0.0, self.decisions.steps, self.decisions.seconds)
        position = Timetable(self.decisions.steps, corrections).position(step)
        if step >= last.steps or not is_due(position, seconds, last, self._budget, costs):
            return None
        steps = step + fitting_steps(self._budget - seconds, position, costs, self._train)
        correction = Correction(step, position, steps, seconds)
        self.decisions = replace(self.decisions, corrections=(*self.decisions.corrections, correction))
        self.decisions.write(self._file)
        return correction


def short_of_time(seconds: float, config: RunConfig) -> str:
    """What to say of a run whose preparation took so long that hardly any training fits."""
    return (
        f"Preparing took {seconds:.0f} s of {60 * (config.train.minutes or 0.0):.0f} s: there is time for hardly any "
        "training. Give more --minutes, or prepare the text beforehand with `tinyslm data prepare`."
    )


@dataclass(frozen=True)
class Rates:
    """Seconds of one update, and of one held-out token in a validation and in the final score."""

    update: float
    validation: float
    scoring: float

    def costs(self, config: RunConfig, held_out: int) -> tuple[RunCosts, dict[str, int]]:
        """The costs of a run with `train.minutes`, and how many held-out tokens it looks at, as settings.

        held_out: tokens that there are. Parts that depend on the disk and on drawing are assumed, until they are seen.
        """
        seconds, train = 60 * (config.train.minutes or 0.0), config.train
        often = seconds * VALIDATING_SHARE / VALIDATIONS
        looked = train.validation_tokens or min(QUICK_TOKENS, max(FEWEST_VALIDATED, int(often / self.validation)))
        most = int(seconds * SCORING_SHARE / self.scoring)
        scored = train.score_tokens or min(MOST_SCORED, max(QUICK_TOKENS, most))
        validation = self.validation * min(looked, held_out)
        weights = 4 * config.model.parameters / DISK_RATE
        costs = RunCosts(
            update=self.update,
            validation=validation,
            weights=weights,
            sample=SAMPLE_SECONDS,
            checkpoint=CHECKPOINT_SIZE * weights,
            scoring=self.scoring * min(scored, held_out) / validation,
            report=REPORT_SECONDS,
        )
        return costs, {"validation_tokens": looked, "score_tokens": scored}


def measure(
    model: Decoder,
    stage: Stage,
    batch: Batch,
    config: RunConfig,
    settings: StepSettings,
    folder: Path | None,
    world: World | None = None,
) -> tuple[Rates, Compiling]:
    """Time a few updates and a validation, and choose whether updates are compiled; for runs without a plan.

    Model and random generators stay as they are. Of several processes, the first one validates; each times updates of
    its own, unless weights are divided. Raises `TinyslmError` if `folder`, if given, cannot be written to.
    """
    device, world = batch.inputs.device, world or World()
    if device.type == "cpu":
        compile_native(settings.dtype)  # so that no compilation is timed below
    whole = whole_model(model, world)
    if folder:
        _try_writing(whole, folder)

    def time_way(compiled: bool) -> Timing:
        trial = copy.deepcopy(model)
        if compiled:
            compile_model(trial)
        return time_updates(trial, stage, batch, config, settings)

    if is_sharded(model):
        update = _time_divided(model, stage, batch, config, settings, world)
        compiling = Compiling(False, "the weights are divided over the processes", update)
    else:
        compiling, update = choose(config, device, settings.dtype, time_way)
    tokens = min(TRIED_TOKENS, stage.held_out_tokens)

    def time_validations() -> list[float]:
        kinds = (settings.dtype, torch.float32)
        return [timed(partial(stage.validate, whole, dtype, tokens)) / tokens for dtype in kinds]

    with uncompiled():
        validation, scoring = world.lead(time_validations)
    return Rates(update + time_batches(model, stage), validation, RAGGED * scoring), compiling


def _time_divided(
    model: Decoder, stage: Stage, batch: Batch, config: RunConfig, settings: StepSettings, world: World
) -> float:
    """Seconds of an update that all processes make together; there is no room for a copy, so weights are put back."""
    before = [own_rows(parameter.data).clone() for parameter in model.parameters()]
    timing = time_updates(model, stage, batch, config, settings, world)
    for parameter, rows in zip(model.parameters(), before, strict=True):
        own_rows(parameter.data).copy_(rows)
        parameter.grad = None
    return timing.update


def time_batches(model: Decoder, stage: Stage) -> float:
    """Seconds that one of the next batches takes: some stages sample them, or let a reference read them."""
    begun = stage.batches.state()
    seconds = timed(lambda: [stage.batches.next(model) for _ in range(FETCHED)]) / FETCHED
    stage.batches.restore(begun)
    return seconds


def time_updates(
    model: Decoder, stage: Stage, batch: Batch, config: RunConfig, settings: StepSettings, world: World | None = None
) -> Timing:
    """The median time of an update after the first one, for a small share of the run's time; they change the model.

    world: the processes, if they make these updates together.
    """
    world = world or World()
    optimizers = Optimizers(model, config.optimizer, world=world)
    limit, end = SHARE_OF_TIME * 60 * (config.train.minutes or 0.0), math.inf
    times: list[float] = []
    with torch.random.fork_rng():
        before = time.monotonic()
        for _ in train_steps(model, stage.loss, lambda: batch, optimizers, settings, world=world):
            now = time.monotonic()
            times.append(now - before)
            before = now
            tried = len(times) - WARM_UP
            end = now + limit if tried == 0 else end
            if world.decide(tried >= MOST or (tried >= FEWEST and now > end)):
                break
    usual = median(times[WARM_UP:])
    return Timing(usual, max(0.0, sum(times[:WARM_UP]) - WARM_UP * usual))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _try_writing(model: Decoder, folder: Path) -> None:
    """Write the weights into `folder` and remove them, so that a full disk is found before anything is trained."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".trial.", suffix=".tmp") as place:
            write_tensors(Path(place) / "model.safetensors", state_tensors(model))
    except OSError as error:
        raise disk_error(folder, error) from error
