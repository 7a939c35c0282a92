"""One training run: from data to a model folder, in a run folder that can be left and resumed at any moment.

`Run.events()` yields everything that happens; the caller logs and shows it. Validations, samples and checkpoints draw
nothing from the random generators of the training, so a run does not depend on when it was validated or interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import read_manifest, write_json
from tinyslm.data.shard_cache import place_of
from tinyslm.hardware.allocator import return_freed_memory
from tinyslm.model.decoder import Decoder
from tinyslm.training.building import Order, build
from tinyslm.training.checkpoint import (
    Progress,
    checkpoint_name,
    drop_former_best,
    load_checkpoint,
    load_weights,
    newest_intact,
    rotate,
    save_checkpoint,
    save_weights,
)
from tinyslm.training.compiling import Compiling, check_compiling, compile_model, settled, uncompiled
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import (
    MOST_SCORED,
    QUICK_TOKENS,
    SAMPLES,
    VALIDATIONS,
    Deadline,
    Decisions,
    Rates,
    Timetable,
    fitting_steps,
    measure,
    short_of_time,
)
from tinyslm.training.interrupt import Interrupted, StopRequest, stop_requests
from tinyslm.training.loop import StepReport, StepSettings, train_steps
from tinyslm.training.metrics import Meter
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.run_events import start_event, step_event
from tinyslm.training.run_folder import RunFolder, circumstances
from tinyslm.training.schedule import lr_scale
from tinyslm.training.sharding import Sharding, whole_model
from tinyslm.training.stage import Batch, Stage, result_of
from tinyslm.training.stages import save_result
from tinyslm.training.world import World

Event = dict[str, Any]
Found = TypeVar("Found")
Clock = Callable[[], float]


@dataclass
class Run:
    """A run that is about to start or to resume; iterate over `events()` to make it happen."""

    folder: RunFolder
    config: RunConfig
    stage: Stage
    model: Decoder
    optimizers: Optimizers
    progress: Progress
    device: torch.device
    dtype: torch.dtype
    world: World
    sharding: Sharding
    clock: Clock = time.monotonic
    deadline: Deadline | None = None  # where the settings give minutes
    _origin: float = 0.0  # what the clock showed, or would have, when the run began
    _updated: float = 0.0  # its seconds at the last update
    _elsewhere: float = 0.0  # seconds since then that went into something else
    _holds_lock: bool = False  # the folder is locked for events that are still to come

    @classmethod
    def start(
        cls,
        path: Path | RunFolder,
        data: Path,
        config: RunConfig,
        *,
        rates: Rates | None = None,
        spent: float = 0.0,
        clock: Clock = time.monotonic,
    ) -> "Run":
        """Begin a run in a new folder. The run keeps the folder locked until its events have ended.

        data: the folder that the stage learns from. rates: how fast this machine is, from a plan; else a run with a
        time measures it. spent: seconds of preparation that count as time of the run. Raises `TinyslmError` for a
        folder in use, too little data, or settings that cannot be trained with here.
        """
        origin = clock() - spent
        folder = path if isinstance(path, RunFolder) else RunFolder(path)
        folder.check_unused()
        with folder.lock:
            folder.check_unused()  # under the lock, no other process can begin a run
            order = World.current().lead(lambda: Order(folder.path, place_of(data), config, rates=rates))
            run = cls._of(order, folder)
            run.clock, run._origin = clock, origin
            run._begin(data, rates)
            run._hold()
        return run

    @classmethod
    def follow(cls) -> "Run":
        """The next run that process 0 starts or resumes, for another process.

        Raises `TinyslmError` where process 0 does, and `LostProcess` when it has ended.
        """
        order: Order = World.current().wait()
        run = cls._of(order, RunFolder(order.folder))
        run._origin = run.clock()
        if order.resumed:
            run._restore(order.decisions, None)
        else:
            run._begin(Path(order.data), order.rates)
        return run

    def _begin(self, data: Path, rates: Rates | None) -> None:
        """Decide settings that are "auto", and write the folder's first files."""
        if self.config.train.minutes:
            self._plan(rates)
        elif self.config.train.compile == "auto":  # nothing is timed
            self._decide({"compile": "off"})
        self._compile()
        self.folder.create(self.config, data, circumstances(self.device, self.dtype))
        self.progress = replace(self.progress, seconds=self.seconds)

    @classmethod
    def resume(
        cls,
        path: Path,
        changed: RunConfig | None = None,
        warn: Callable[[str], None] = print,
        clock: Clock = time.monotonic,
    ) -> "Run":
        """Resume a run from its newest intact checkpoint (from the beginning if there is none).

        The run keeps the folder locked until its events have ended. changed: settings that the caller wants; they must
        be the run's own. Raises `TinyslmError` for other settings, or a folder or data that is damaged.
        """
        begun = clock()
        folder = RunFolder.open(path)
        with folder.lock:
            folder.remove_leftovers()
            config = folder.read_config(changed)
            decisions = Decisions.read(folder.deadline_file) if config.train.minutes else None
            order = Order(folder.path, place_of(folder.checked_data(config)), config, resumed=True, decisions=decisions)
            run = cls._of(World.current().lead(lambda: order), folder)
            run.clock = clock
            folder.warn_of_changes(run.device, run.dtype, warn)
            run._restore(decisions, newest_intact(folder.checkpoints, warn))
            run.progress = replace(run.progress, seconds=run.progress.seconds + clock() - begun)
            run._hold()
        return run

    def _restore(self, decisions: Decisions | None, checkpoint: Path | None) -> None:
        """Put everything where it was at a checkpoint, or at the beginning; process 0 reads it."""
        self._compile()
        if decisions:
            self.deadline = Deadline(self.folder.deadline_file, decisions, self.config.train)
            self.progress = Progress(seconds=decisions.seconds, costs=decisions.costs)
        if progress := load_checkpoint(checkpoint, self.model, self.optimizers, self.world):
            self.progress = progress
            self.stage.batches.restore(progress.batches)

    def _hold(self) -> None:
        """Keep the folder locked until the events are iterated."""
        self.folder.lock.acquire()
        self._holds_lock = True

    def close(self) -> None:
        """Unlock the folder of a run whose events will not be iterated in this process."""
        if self._holds_lock:
            self._holds_lock = False
            self.folder.lock.release()

    @classmethod
    def _of(cls, order: Order, folder: RunFolder) -> "Run":
        world = World.current()
        parts = build(order, world)
        return cls(folder=folder, progress=Progress(), world=world, **vars(parts))

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
        given = train.steps or math.ceil(train.tokens / (train.batch * self.config.row_tokens))
        return Timetable(self.deadline.decisions.steps if self.deadline else given, self.progress.corrections)

    @property
    def steps(self) -> int:
        """Updates in the whole run, as far as is known now."""
        return self.timetable.steps

    @property
    def score_tokens(self) -> int:
        """Held-out tokens of the final score, about."""
        return self.config.train.score_tokens or MOST_SCORED

    @property
    def seconds(self) -> float:
        """How long the run has taken until now, its preparation included, interruptions left out."""
        return self.clock() - self._origin

    def _events(self, stop: StopRequest) -> Iterator[Event]:
        self._origin = self.clock() - self.progress.seconds
        saved = self._updated = self.seconds
        self._elsewhere = 0.0
        compiling = self.deadline.decisions.compiling if self.deadline else None
        further = {
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "processes": self.world.size,
            "sharding": asdict(self.sharding),
            "compiling": compiling and asdict(compiling),
        }
        yield start_event(self.config, self.progress, self.steps, further)
        if self.deadline and self.deadline.decisions.steps == 1 and not self.progress.step:
            yield {"event": "warning", "step": 0, "text": short_of_time(self.progress.seconds, self.config)}
        if self.config.train.snapshots and not self.progress.step:
            self._save_weights(self.folder.snapshot(0))
        meter = Meter(self.progress.tokens, self.progress.seconds)
        for report in self._updates():
            self._advance(report)
            yield from self._log(report, meter)
            yield from self._correct(report.step)
            due = self.world.leads and self.seconds - saved >= 60 * self.config.train.checkpoint_minutes
            stopping, due = self.world.any(stop.requested, due)
            if due or stopping or report.step == self.steps:
                yield self._timed("checkpoint", self._save)
                saved = self.seconds
            if stopping:
                raise Interrupted(report.step)
        yield {"event": "scoring", "step": self.progress.step, "best": self.progress.best_step}
        yield from self._finish(stop)

    def _updates(self) -> Iterator[StepReport]:
        """The updates that are left; how many is asked after each of them."""
        settings, first = self._step_settings(), self.progress.step
        updates = train_steps(
            self.model, self.stage.loss, self._next_batch, self.optimizers, settings, first, self.world
        )
        while self.progress.step < self.steps:
            yield next(updates)

    def _log(self, report: StepReport, meter: Meter) -> Iterator[Event]:
        """The events of an update: the log's row, a validation, a sample."""
        train, last = self.config.train, report.step == self.steps
        if report.skipped:
            yield {"event": "skipped", "step": report.step, "reason": report.skipped}
        else:
            meter.add(report.loss)
        if report.step % train.log_every == 0 or last:
            yield step_event(self.config, self.progress, self.stage, report, meter)
        for text in self.stage.warnings(report.metrics):
            yield {"event": "warning", "step": report.step, "text": text}
        if last or self._comes_to(report.step, train.validate_every, VALIDATIONS):
            yield self._validate()
        if self.timetable.passes(report.step, train.snapshots, power=2):
            self._timed("weights", lambda: self._save_weights(self.folder.snapshot(report.step)))
        if self._comes_to(report.step, train.sample_every, SAMPLES):
            yield {"event": "sample", "step": report.step, "prompt": "", "text": self._timed("sample", self.sample)}

    def _comes_to(self, step: int, every: int, points: int) -> bool:
        """Whether something is due after `step` that is done every so many steps, or at evenly spread points."""
        return step % every == 0 if every else self.timetable.passes(step, points)

    def _correct(self, step: int) -> Iterator[Event]:
        """Correct the number of updates where that is due, so that the run ends on time."""
        before, costs, corrections = self.steps, self.progress.costs, self.progress.corrections
        if self.deadline is None or costs is None:
            return
        correction = self.deadline.correct(step, self.seconds, costs, corrections) if self.world.leads else None
        if correction := self.world.decide(correction):
            self.progress = replace(self.progress, corrections=(*corrections, correction))
            yield {"event": "pace", **asdict(correction), "before": before}

    def _timed(self, part: str, work: Callable[[], Found]) -> Found:
        """Do something that is not an update, and note what it costs where that is needed."""
        begun = self.clock()
        found = work()
        seconds = self.clock() - begun
        self._elsewhere += seconds
        if self.progress.costs:
            self.progress = replace(self.progress, costs=self.progress.costs.seen(part, seconds))
        return found

    def sample(self) -> str:
        """A short text from the model as it is now; the same for equal weights."""
        if self.config.train.start_from:
            return_freed_memory()  # the engine needs it in larger pieces
        model = whole_model(self.model, self.world)
        with uncompiled():
            return self.world.lead(lambda: self.stage.sample(model, self.config.train.seed))

    def quick_loss(self) -> float:
        """Mean loss on a fixed set of held-out tokens."""
        tokens = self.config.train.validation_tokens or QUICK_TOKENS
        model = whole_model(self.model, self.world)
        with uncompiled():
            return self.world.lead(lambda: self.stage.validate(model, self.dtype, tokens))

    def _next_batch(self) -> Batch:
        self.world.seed(self.config.train.seed, self.progress.step)
        return self.stage.batches.next(self.model).to(self.device)

    def _advance(self, report: StepReport) -> None:
        """Take an update into the progress, the place in the data after its batch included."""
        before = self.progress
        tokens = before.tokens + report.tokens
        self.progress = replace(before, step=report.step, tokens=tokens, batches=self.stage.batches.state())
        seconds = self.seconds
        if costs := before.costs:
            costs = costs.updated(seconds - self._updated - self._elsewhere, self.steps)
        self.progress = replace(self.progress, seconds=seconds, costs=costs)
        self._updated, self._elsewhere = seconds, 0.0

    def _validate(self) -> Event:
        """Validate on a few tokens; the weights that do best are kept."""
        loss = self._timed("validation", self.quick_loss)
        best = self.progress.best_loss
        if best is None or math.isnan(best) or loss < best:
            self.progress = replace(self.progress, best_loss=loss, best_step=self.progress.step)
            self._timed("weights", lambda: self._save_weights(self.folder.best(self.progress.step)))
            if self.world.leads:
                drop_former_best(self.folder.checkpoints, self.progress.step)
        return {
            "event": "validation",
            "step": self.progress.step,
            "loss": loss,
            **self.stage.in_units(loss, held_out=True),
            "seconds": round(self.progress.seconds, 3),
        }

    def _save_weights(self, folder: Path) -> None:
        model = whole_model(self.model, self.world)
        if self.world.leads:
            save_weights(folder, model)

    def _save(self) -> Event:
        path = self.folder.checkpoints / checkpoint_name(self.progress.step)
        self.progress = replace(self.progress, seconds=self.seconds)
        save_checkpoint(path, self.model, self.optimizers, self.progress, self.world)
        if self.world.leads:
            rotate(path, self.config.train.keep)
        return {"event": "checkpoint", "step": self.progress.step, "path": f"{path.relative_to(self.folder.path)}"}

    def _finish(self, stop: StopRequest) -> Iterator[Event]:
        """Score the best weights, and write the model folder and the result; the last event is "end".

        Raises `Interrupted` if the run is asked to stop meanwhile.
        """
        if self.config.train.start_from:  # the score takes an engine, for answers
            self.optimizers.free()
            return_freed_memory()
        step, model = self.progress.best_step, whole_model(self.model, self.world)
        if self.world.leads:
            try:
                read_manifest(self.folder.best(step))
                load_weights(self.folder.best(step), model)
            except TinyslmError as error:
                step = self.progress.step
                yield {"event": "warning", "step": step, "text": f"{error.problem} The last weights are taken instead."}

        def check() -> None:
            if stop.requested:
                raise Interrupted(self.progress.step)

        def result() -> dict[str, Any]:
            with uncompiled():
                score = self.stage.score(model, self.score_tokens, check)
            result = {
                **result_of(score),
                "step": step,
                "training_tokens": self.progress.tokens,
                "training_seconds": round(self.progress.seconds, 1),
                "parameters": self.config.model.parameters,
            }
            save_result(model, self.stage.tokenizer, self.config, self.folder, result)
            write_json(self.folder.result_file, result)
            return result

        scored = self.world.lead(result)
        yield {"event": "end", "step": self.progress.step, "seconds": round(self.seconds, 3), "result": scored}

    def _step_settings(self) -> StepSettings:
        train, schedule = self.config.train, self.config.schedule
        return StepSettings(
            steps=10**9,  # the run itself knows when it ends
            micro_batch=train.micro_batch or train.batch,
            clip=self.config.optimizer.clip,
            dtype=self.dtype,
            lr_scale=lambda step: lr_scale(self.timetable.position(step + 0.5), schedule),
        )

    def _plan(self, rates: Rates | None) -> None:
        """Plan as many updates as fit into the time; how fast they are is measured unless `rates` say so."""
        compiling = settled(self.config, self.device, self.dtype)
        if rates is None or compiling is None:
            rates, compiling = self._measure()
        rates, compiling = self.world.decide((rates, compiling))
        costs, decided = rates.costs(self.config, self.stage.held_out_tokens)
        self._decide({**decided, "compile": "on" if compiling.on else "off"})
        train = self.config.train
        left = 60 * (train.minutes or 0.0) - self.seconds
        decisions = Decisions(fitting_steps(left, 0.0, costs, train), self.seconds, costs, compiling=compiling)
        decisions = self.world.decide(decisions)
        self.deadline = Deadline(self.folder.deadline_file, decisions, train)
        if self.world.leads:
            decisions.write(self.folder.deadline_file)
        self.progress = replace(self.progress, costs=costs)

    def _measure(self) -> tuple[Rates, Compiling]:
        begun, batch = self.stage.batches.state(), self._next_batch()
        self.stage.batches.restore(begun)
        settings = replace(self._step_settings(), lr_scale=lambda _: 1.0)
        place = self.folder.checkpoints if self.world.leads else None
        return measure(self.model, self.stage, batch, self.config, settings, place, self.world)

    def _compile(self) -> None:
        """Have the model compiled, where that was decided."""
        check_compiling(self.config)
        if self.config.train.compile == "on":
            compile_model(self.model)

    def _decide(self, decided: dict[str, Any]) -> None:
        """Put what the run decided itself into its settings."""
        self.config = build_config(RunConfig, merge(self.config.model_dump(), {"train": decided}))
