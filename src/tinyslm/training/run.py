"""One training run: from shards to a model folder, in a run folder that can be left and resumed at any moment.

`Run.events()` is the whole story: it yields what happens, and whoever iterates logs and shows it. Nothing that is only
watched (validation, samples, checkpoints) draws from the random generators of the training, so a run does not depend on
when it was looked at or interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tinyslm.core.config import build_config, merge
from tinyslm.data.loader import Loader
from tinyslm.data.shards import Shards
from tinyslm.hardware.allocator import keep_freed_memory, return_freed_memory
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.hardware.limits import usable_cores
from tinyslm.model.decoder import Decoder
from tinyslm.training.budget import SAMPLES, VALIDATIONS, fitting_steps
from tinyslm.training.checkpoint import (
    Progress,
    checkpoint_name,
    drop_former_best,
    load_checkpoint,
    newest_intact,
    rotate,
    save_checkpoint,
    save_weights,
)
from tinyslm.training.compiling import compile_model, refuse_impossible_compiling
from tinyslm.training.config import RunConfig
from tinyslm.training.ending import finish
from tinyslm.training.interrupt import Interrupted, StopRequest, stop_requests
from tinyslm.training.looking import quick_loss, quick_windows, sample_text
from tinyslm.training.loop import StepReport, StepSettings, train_steps
from tinyslm.training.meter import Meter
from tinyslm.training.new_model import new_model
from tinyslm.training.objectives import OBJECTIVES
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.pace import MOST_SCORED, measured
from tinyslm.training.pacer import Pace, Pacer, pace_event
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.schedule import learning_rate_share
from tinyslm.training.timetable import Timetable
from tinyslm.training.validation import bytes_per_token

Event = dict[str, Any]
Found = TypeVar("Found")
Clock = Callable[[], float]


@dataclass
class Run:
    """A run that is about to start or to go on; iterate over `events()` to make it happen."""

    folder: RunFolder
    config: RunConfig
    shards: Shards
    model: Decoder
    optimizers: Optimizers
    loader: Loader
    progress: Progress
    device: torch.device
    dtype: torch.dtype
    clock: Clock = time.monotonic
    pacer: Pacer | None = None  # where the settings give minutes
    _origin: float = 0.0  # what the clock showed, or would have, when the run began
    _updated: float = 0.0  # its seconds at the last update
    _elsewhere: float = 0.0  # seconds since then that went into something else
    _held: bool = False  # whether the folder is locked for events that are still to come

    @classmethod
    def start(
        cls,
        path: Path | RunFolder,
        shards: Shards,
        config: RunConfig,
        *,
        spent: float = 0.0,
        clock: Clock = time.monotonic,
    ) -> "Run":
        """Begin a run in a new folder; tries how fast this machine is when the settings give minutes.

        The run keeps the folder locked until its events have ended. spent: seconds that count as time of the run,
        because they went into preparing it.
        """
        origin = clock() - spent
        folder = path if isinstance(path, RunFolder) else RunFolder(path)
        folder.refuse_if_used()
        with folder.lock:
            folder.refuse_if_used()  # under the lock, no other process can begin a run
            run = cls._build(folder, shards, _with_vocabulary(config, shards))
            run.clock, run._origin = clock, origin
            run._begin()
            run._hold()
        return run

    def _begin(self) -> None:
        """Decide settings that are "auto", and write the folder's first files."""
        train = self.config.train
        self.loader.next()  # these two raise now, before anything is written, when there is too little text
        quick_windows(self.shards, self.config)
        self.loader.restore({**self.loader.state(), "epoch": 0, "position": 0})
        if train.minutes:
            self._plan()
        elif train.compile == "auto":  # how fast it is, is not looked at
            self._decide({"compile": "off"})
        self._compile()
        self.folder.create(self.config, self.shards)
        self.folder.record_circumstances(self.device, self.dtype)
        self.progress = replace(self.progress, seconds=self.seconds)

    @classmethod
    def resume(
        cls,
        path: Path,
        changed: RunConfig | None = None,
        warn: Callable[[str], None] = print,
        clock: Clock = time.monotonic,
    ) -> "Run":
        """Go on with a run from its newest intact checkpoint (from the beginning when there is none).

        The run keeps the folder locked until its events have ended. `changed`: settings that the caller wants; they
        must be the run's own.
        """
        begun = clock()
        folder = RunFolder.open(path)
        with folder.lock:
            folder.remove_leftovers()
            run = cls._build(folder, folder.open_shards(), folder.read_config(changed))
            run.clock = clock
            run._compile()
            folder.warn_of_changes(run.device, run.dtype, warn)
            if run.config.train.minutes:
                pace = Pace.read(folder.pace_file)
                run.pacer = Pacer(folder.pace_file, pace, run.config.train)
                run.progress = Progress(seconds=pace.seconds, costs=pace.costs)
            if checkpoint := newest_intact(folder.checkpoints, warn):
                run.progress = load_checkpoint(checkpoint, run.model, run.optimizers)
                run.loader.restore(dict(run.progress.loader))
            run.progress = replace(run.progress, seconds=run.progress.seconds + clock() - begun)
            run._hold()
        return run

    def _hold(self) -> None:
        """Keep the folder locked until the events are iterated."""
        self.folder.lock.acquire()
        self._held = True

    def close(self) -> None:
        """Unlock the folder of a run that is not to go on in this process; one whose events have ended has done it."""
        if self._held:
            self._held = False
            self.folder.lock.release()

    @classmethod
    def _build(cls, folder: RunFolder, shards: Shards, config: RunConfig) -> "Run":
        return_freed_memory()  # what planning and preparing left
        keep_freed_memory()
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))  # a container's quota counts too
        device = pick_device(config.train.device)
        dtype = pick_dtype(device, config.train.dtype)
        torch.manual_seed(config.train.seed)
        model = new_model(config.model).to(device)
        model.model.recompute = config.train.checkpoint_activations
        loader = Loader(
            shards.split("train"), context=config.model.context, batch=config.train.batch, seed=config.train.seed
        )
        optimizers = Optimizers(model, config.optimizer, keep_gradients=config.train.checkpoint_activations)
        return cls(folder, config, shards, model, optimizers, loader, Progress(), device, dtype)

    def events(self) -> Iterator[Event]:
        """Train to the end. The last event is "end"; its "result" is also in `result.json`.

        Raises `Interrupted` after saving when SIGINT or SIGTERM asks for it.
        """
        with self.folder.lock, stop_requests() as stop:
            self.close()  # this iteration holds the lock from here on
            yield from self._events(stop)

    @property
    def timetable(self) -> Timetable:
        """How updates lie in the run: the plan, and its corrections so far."""
        train = self.config.train
        given = train.steps or math.ceil(train.tokens / (train.batch * self.config.model.context))
        return Timetable(self.pacer.pace.steps if self.pacer else given, self.progress.corrections)

    @property
    def steps(self) -> int:
        """Updates in the whole run, as it is known now."""
        return self.timetable.steps

    @property
    def score_tokens(self) -> int:
        """Validation tokens of the final score, about."""
        return self.config.train.score_tokens or MOST_SCORED

    @property
    def seconds(self) -> float:
        """How long the run has taken until now, its preparation included, and what it lay still left out."""
        return self.clock() - self._origin

    def _events(self, stop: StopRequest) -> Iterator[Event]:
        self._origin = self.clock() - self.progress.seconds
        saved = self._updated = self.seconds
        self._elsewhere = 0.0
        yield self._start_event()
        if self.pacer and self.pacer.pace.steps == 1 and not self.progress.step:
            yield {"event": "warning", "step": 0, "text": _short_of_time(self.progress.seconds, self.config)}
        meter = Meter(self.progress.tokens, self.progress.seconds)
        for report in self._updates():
            self._advance(report)
            yield from self._look(report, meter)
            yield from self._correct(report.step)
            due = self.seconds - saved >= 60 * self.config.train.checkpoint_minutes
            if due or stop.requested or report.step == self.steps:
                yield self._timed("checkpoint", self._save)
                saved = self.seconds
            if stop.requested:
                raise Interrupted(report.step)
        yield {"event": "scoring", "step": self.progress.step, "best": self.progress.best_step}
        yield from finish(self, stop)

    def _updates(self) -> Iterator[StepReport]:
        """The updates that are left; how many is asked after each of them."""
        updates = train_steps(
            self.model,
            OBJECTIVES["pretrain"],
            self._next_batch,
            self.optimizers,
            self._step_settings(),
            self.progress.step,
        )
        while self.progress.step < self.steps:
            yield next(updates)

    def _look(self, report: StepReport, meter: Meter) -> Iterator[Event]:
        """What there is to tell after an update: the log, a validation, a sample."""
        train, last = self.config.train, report.step == self.steps
        if report.skipped:
            yield {"event": "skipped", "step": report.step, "reason": report.skipped}
        else:
            meter.add(report)
        if report.step % train.log_every == 0 or last:
            yield self._step_event(report, meter)
        if last or self._comes_to(report.step, train.validate_every, VALIDATIONS):
            yield self._validate()
        if self._comes_to(report.step, train.sample_every, SAMPLES):
            text = self._timed("sample", self.sample)
            yield {"event": "sample", "step": report.step, "prompt": "", "text": text}

    def _comes_to(self, step: int, every: int, points: int) -> bool:
        """Whether something is due after `step` that is done every so many steps, or at evenly spread points."""
        return step % every == 0 if every else self.timetable.passes(step, points)

    def _correct(self, step: int) -> Iterator[Event]:
        """Set the number of updates anew where that is due, so that the run ends on time."""
        before, costs, corrections = self.steps, self.progress.costs, self.progress.corrections
        if self.pacer is None or costs is None:
            return
        if correction := self.pacer.correction(step, self.seconds, costs, corrections):
            self.progress = replace(self.progress, corrections=(*corrections, correction))
            yield pace_event(correction, before)

    def _timed(self, part: str, work: Callable[[], Found]) -> Found:
        """Do something beside the updates, and note what it costs where that is kept."""
        begun = self.clock()
        found = work()
        seconds = self.clock() - begun
        self._elsewhere += seconds
        if self.progress.costs:
            self.progress = replace(self.progress, costs=self.progress.costs.seen(part, seconds))
        return found

    def sample(self) -> str:
        """A short text from the model as it is now; the same for equal weights."""
        return sample_text(self.model, self.shards, self.config)

    def quick_loss(self) -> float:
        """Mean loss on a fixed set of validation windows, spread evenly."""
        return quick_loss(self.model, self.shards, self.config, self.device, self.dtype)

    def _next_batch(self) -> Tensor:
        return torch.from_numpy(self.loader.next()).to(self.device)

    def _advance(self, report: StepReport) -> None:
        """Take an update into the progress, the state of the loader after its batch included."""
        before = self.progress
        tokens = before.tokens + self.config.train.batch * self.config.model.context
        self.progress = replace(before, step=report.step, tokens=tokens, loader=self.loader.state())
        seconds = self.seconds
        if costs := before.costs:
            costs = costs.updated(seconds - self._updated - self._elsewhere, self.steps)
        self.progress = replace(self.progress, seconds=seconds, costs=costs)
        self._updated, self._elsewhere = seconds, 0.0

    def _validate(self) -> Event:
        """The quick validation; the weights that do best in it are kept."""
        loss = self._timed("validation", self.quick_loss)
        best = self.progress.best_loss
        if best is None or math.isnan(best) or loss < best:
            self.progress = replace(self.progress, best_loss=loss, best_step=self.progress.step)
            self._timed("weights", lambda: save_weights(self.folder.best(self.progress.step), self.model))
            drop_former_best(self.folder.checkpoints, self.progress.step)
        return {
            "event": "validation",
            "step": self.progress.step,
            "loss": loss,
            "bits_per_byte": loss / math.log(2) / bytes_per_token(self.shards.split("valid")),
            "seconds": round(self.progress.seconds, 3),
        }

    def _save(self) -> Event:
        path = self.folder.checkpoints / checkpoint_name(self.progress.step)
        self.progress = replace(self.progress, seconds=self.seconds)
        save_checkpoint(path, self.model, self.optimizers, self.progress)
        rotate(path, self.config.train.keep)
        return {
            "event": "checkpoint",
            "step": self.progress.step,
            "path": path.relative_to(self.folder.path).as_posix(),
        }

    def _start_event(self) -> Event:
        compiling = self.pacer.pace.compiling if self.pacer else None
        return {
            "event": "start",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "steps": self.steps,
            "tokens_per_step": self.config.train.batch * self.config.model.context,
            "parameters": self.config.model.parameters,
            "bytes_per_token": bytes_per_token(self.shards.split("train")),
            "resumed_from": self.progress.step,
            "compiling": asdict(compiling) if compiling else None,
        }

    def _step_event(self, report: StepReport, meter: Meter) -> Event:
        optimizer = self.config.optimizer
        peak = optimizer.muon_lr if optimizer.name == "muon" else optimizer.lr
        loss, rate = meter.read(self.progress.tokens, self.progress.seconds)
        per_byte = loss / math.log(2) / bytes_per_token(self.shards.split("train"))
        return {
            "event": "step",
            "step": report.step,
            "tokens": self.progress.tokens,
            "loss": loss,
            "bits_per_byte": per_byte,
            "learning_rate": peak * report.learning_rate_share,
            "gradient_norm": report.gradient_norm,
            "tokens_per_second": rate,
            "seconds": round(self.progress.seconds, 3),
        }

    def _step_settings(self) -> StepSettings:
        train, schedule = self.config.train, self.config.schedule
        return StepSettings(
            steps=10**9,  # the run itself knows when it ends
            micro_batch=train.micro_batch or train.batch,
            clip=self.config.optimizer.clip,
            dtype=self.dtype,
            learning_rate_share=lambda step: learning_rate_share(self.timetable.position(step + 0.5), schedule),
        )

    def _plan(self) -> None:
        """Try how fast this machine is, and plan as many updates as fit into the time, the trial included."""
        train, begun = self.config.train, self.loader.state()
        batch = self._next_batch()
        self.loader.restore(begun)
        settings = replace(self._step_settings(), learning_rate_share=lambda _: 1.0)
        costs, compiling, decided = measured(
            self.model,
            OBJECTIVES["pretrain"],
            batch,
            self.shards,
            self.config,
            settings,
            self.folder.checkpoints,
        )
        self._decide(decided)
        seconds, budget = self.seconds, 60 * (train.minutes or 0.0)
        pace = Pace(fitting_steps(budget - seconds, 0.0, costs, train), seconds, costs, compiling=compiling)
        pace.write(self.folder.pace_file)
        self.pacer = Pacer(self.folder.pace_file, pace, train)
        self.progress = replace(self.progress, costs=costs)

    def _compile(self) -> None:
        """Have the model compiled, where that was decided."""
        refuse_impossible_compiling(self.config)
        if self.config.train.compile == "on":
            compile_model(self.model)

    def _decide(self, decided: dict[str, Any]) -> None:
        """Put what the run decided itself into its settings."""
        self.config = build_config(RunConfig, merge(self.config.model_dump(), {"train": decided}))


def _short_of_time(seconds: float, config: RunConfig) -> str:
    return (
        f"Preparing took {seconds:.0f} s of {60 * (config.train.minutes or 0.0):.0f} s: there is time for hardly any "
        "training. Give more --minutes, or prepare the text beforehand with `tinyslm data prepare`."
    )


def _with_vocabulary(config: RunConfig, shards: Shards) -> RunConfig:
    """The settings with the vocabulary of the shards' tokenizer."""
    return build_config(RunConfig, merge(config.model_dump(), {"model": {"vocab_size": shards.tokenizer.vocab_size}}))
