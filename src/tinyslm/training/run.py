"""One training run: from shards to a model folder, in a run folder that can be left and resumed at any moment.

`Run.events()` is the whole story: it yields what happens, and whoever iterates logs and shows it. Nothing that is only
watched (validation, samples, checkpoints) draws from the random generators of the training, so a run does not depend on
when it was looked at or interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import read_json, read_manifest, write_json
from tinyslm.data.loader import Loader
from tinyslm.data.shards import Shards
from tinyslm.evaluation.loss import mean_loss, score_documents
from tinyslm.hardware.allocator import keep_freed_memory
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.hardware.limits import usable_cores
from tinyslm.inference.batch_engine import BatchEngine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.training.checkpoint import (
    Progress,
    checkpoint_name,
    load_checkpoint,
    load_weights,
    newest_intact,
    rotate,
    save_checkpoint,
    save_weights,
)
from tinyslm.training.config import RunConfig
from tinyslm.training.interrupt import Interrupted, StopRequest, stop_requests
from tinyslm.training.loop import StepReport, StepSettings, train_steps
from tinyslm.training.objectives import OBJECTIVES
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.pace import seconds_per_step, timed
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.schedule import learning_rate_share
from tinyslm.training.validation import bytes_per_token, even_windows, spread_documents

Event = dict[str, Any]

VALIDATIONS, SAMPLES = 10, 5
"""How many there are in a run whose settings do not say."""
SAMPLE_TOKENS = 64
FINAL_TOKENS = 1_000_000
"""The final score looks at about this much validation text, and no more."""


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

    @classmethod
    def start(cls, path: Path, shards: Shards, config: RunConfig) -> "Run":
        """Begin a run in a new folder; measures the pace when the settings give minutes instead of steps."""
        RunFolder(path).refuse_if_used()
        config = _with_vocabulary(config, shards)
        run = cls._build(RunFolder(path), shards, config)
        run.loader.next()  # these two raise now, before anything is written, when there is too little text
        even_windows(shards.split("valid"), config.model.context, config.train.validation_tokens)
        run.loader.restore({**run.loader.state(), "epoch": 0, "position": 0})
        if not config.train.steps:
            run.config = build_config(RunConfig, merge(config.model_dump(), {"train": {"steps": run._fitting_steps()}}))
        run.folder = RunFolder.create(path, run.config, shards)
        run.folder.record_circumstances(run.device, run.dtype)
        return run

    @classmethod
    def resume(cls, path: Path, changed: RunConfig | None = None, warn: Callable[[str], None] = print) -> "Run":
        """Go on with a run from its newest intact checkpoint (from the beginning when there is none).

        `changed`: settings that the caller wants; they must be the run's own.
        """
        folder = RunFolder.open(path)
        with folder.locked():
            folder.remove_leftovers()
        run = cls._build(folder, folder.open_shards(), folder.read_config(changed))
        folder.warn_of_changes(run.device, run.dtype, warn)
        if checkpoint := newest_intact(folder.checkpoints, warn):
            run.progress = load_checkpoint(checkpoint, run.model, run.optimizers)
            run.loader.restore(dict(run.progress.loader))
        return run

    @classmethod
    def _build(cls, folder: RunFolder, shards: Shards, config: RunConfig) -> "Run":
        keep_freed_memory()
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))  # a container's quota counts too
        device = pick_device(config.train.device)
        dtype = pick_dtype(device, config.train.dtype)
        torch.manual_seed(config.train.seed)
        model = Decoder(config.model).to(device)
        model.model.recompute = config.train.checkpoint_activations
        if config.train.compile:
            model.model.compile()
        loader = Loader(
            shards.split("train"), context=config.model.context, batch=config.train.batch, seed=config.train.seed
        )
        optimizers = Optimizers(model, config.optimizer)
        return cls(folder, config, shards, model, optimizers, loader, Progress(), device, dtype)

    def events(self) -> Iterator[Event]:
        """Train to the end. The last event is "end"; its "result" is also in `result.json`.

        Raises `Interrupted` after saving when SIGINT or SIGTERM asks for it.
        """
        with self.folder.locked(), stop_requests() as stop:
            yield from self._events(stop)

    def _events(self, stop: StopRequest) -> Iterator[Event]:
        yield self._start_event()
        saved = begun = time.monotonic()
        before = self.progress.seconds
        meter = _Meter(self.progress.tokens, before)
        for report in train_steps(
            self.model,
            OBJECTIVES["pretrain"],
            self._next_batch,
            self.optimizers,
            self._step_settings(),
            self.progress.step,
        ):
            self._advance(report, before + time.monotonic() - begun)
            yield from self._look(report, meter)
            due = time.monotonic() - saved >= 60 * self.config.train.checkpoint_minutes
            if due or stop.requested or report.step == self.config.train.steps:
                yield self._save()
                saved = time.monotonic()
            if stop.requested:
                raise Interrupted(report.step)
        yield {"event": "scoring", "step": self.progress.step, "best": self.progress.best_step}
        yield from self._finish(stop)

    def _look(self, report: StepReport, meter: "_Meter") -> Iterator[Event]:
        """What there is to tell after an update: the log, a validation, a sample."""
        train, last = self.config.train, report.step == self.config.train.steps
        if report.skipped:
            yield {"event": "skipped", "step": report.step, "reason": report.skipped}
        else:
            meter.add(report)
        if report.step % train.log_every == 0 or last:
            yield self._step_event(report, meter)
        if report.step % (train.validate_every or math.ceil(train.steps / VALIDATIONS)) == 0 or last:
            yield self._validate()
        if report.step % (train.sample_every or math.ceil(train.steps / SAMPLES)) == 0:
            yield {"event": "sample", "step": report.step, "prompt": "", "text": self.sample()}

    def sample(self) -> str:
        """A short text from the model as it is now; the same for equal weights."""
        settings = SamplingSettings(max_tokens=SAMPLE_TOKENS, seed=self.config.train.seed)
        with _uncompiled():
            return BatchEngine(self.model, self.shards.tokenizer).complete("", settings)[0].text

    def _next_batch(self) -> Tensor:
        return torch.from_numpy(self.loader.next()).to(self.device)

    def _advance(self, report: StepReport, seconds: float) -> None:
        """Take an update into the progress, the state of the loader after its batch included."""
        tokens = self.progress.tokens + self.config.train.batch * self.config.model.context
        self.progress = replace(
            self.progress, step=report.step, tokens=tokens, seconds=seconds, loader=self.loader.state()
        )

    def _validate(self) -> Event:
        """The quick validation; the weights that do best in it are kept."""
        loss = self.quick_loss()
        best = self.progress.best_loss
        if best is None or math.isnan(best) or loss < best:
            self.progress = replace(self.progress, best_loss=loss, best_step=self.progress.step)
            save_weights(self.folder.best, self.model)
        return {
            "event": "validation",
            "step": self.progress.step,
            "loss": loss,
            "bits_per_byte": loss / math.log(2) / bytes_per_token(self.shards.split("valid")),
            "seconds": round(self.progress.seconds, 3),
        }

    def quick_loss(self) -> float:
        """Mean loss on a fixed set of validation windows, spread evenly."""
        windows = even_windows(
            self.shards.split("valid"), self.config.model.context, self.config.train.validation_tokens
        )
        with _uncompiled():
            return mean_loss(self.model, windows.to(self.device), self.dtype)

    def _save(self) -> Event:
        path = self.folder.checkpoints / checkpoint_name(self.progress.step)
        save_checkpoint(path, self.model, self.optimizers, self.progress)
        rotate(path, self.config.train.keep)
        return {
            "event": "checkpoint",
            "step": self.progress.step,
            "path": path.relative_to(self.folder.path).as_posix(),
        }

    def _finish(self, stop: StopRequest) -> Iterator[Event]:
        """Score the best weights on the validation documents, and write the model folder."""
        step = self.progress.best_step
        try:
            read_manifest(self.folder.best)
            load_weights(self.folder.best, self.model)
        except TinyslmError as error:
            step = self.progress.step
            yield {"event": "warning", "step": step, "text": f"{error.problem} The last weights are taken instead."}
        with _uncompiled():
            score = score_documents(self.model, self._held_out(stop), end_id=self.shards.tokenizer.eos_id)
        result = {
            **asdict(score),
            "step": step,
            "training_tokens": self.progress.tokens,
            "training_seconds": round(self.progress.seconds, 1),
            "parameters": self.config.model.parameters,
        }
        save_model(self.model, self.folder.model, self.shards.tokenizer, training=result)
        write_json(self.folder.result_file, result)
        yield {
            "event": "end",
            "step": self.progress.step,
            "seconds": round(self.progress.seconds, 3),
            "result": result,
        }

    def _held_out(self, stop: StopRequest) -> Iterator[tuple[list[int], int]]:
        """The documents of the final score, until somebody asks to stop."""
        for document in spread_documents(self.shards.split("valid"), FINAL_TOKENS):
            if stop.requested:
                raise Interrupted(self.progress.step)
            yield document

    def _start_event(self) -> Event:
        return {
            "event": "start",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "steps": self.config.train.steps,
            "tokens_per_step": self.config.train.batch * self.config.model.context,
            "parameters": self.config.model.parameters,
            "bytes_per_token": bytes_per_token(self.shards.split("train")),
            "resumed_from": self.progress.step,
        }

    def _step_event(self, report: StepReport, meter: "_Meter") -> Event:
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
        steps = train.steps or 10**9  # a trial run, which is stopped from outside
        return StepSettings(
            steps=steps,
            micro_batch=train.micro_batch or train.batch,
            clip=self.config.optimizer.clip,
            dtype=self.dtype,
            learning_rate_share=lambda step: learning_rate_share(step, steps, schedule),
        )

    def _fitting_steps(self) -> int:
        """The number of updates that fit into the settings' minutes, validations and the trial itself included."""
        begun = time.monotonic()
        batch = self._next_batch()
        self.loader.restore({**self.loader.state(), "epoch": 0, "position": 0})
        step = seconds_per_step(self.model, OBJECTIVES["pretrain"], batch, self.config, self._step_settings())
        left = self.config.train.minutes * 60
        for seconds, every, count in (
            (timed(self.quick_loss), self.config.train.validate_every, VALIDATIONS),
            (timed(self.sample), self.config.train.sample_every, SAMPLES),
        ):
            step += seconds / every if every else 0
            left -= 0 if every else seconds * count
        return max(1, int((left - (time.monotonic() - begun)) / step))


class _Meter:
    """Mean loss and tokens per second since they were last read."""

    def __init__(self, tokens: int, seconds: float) -> None:
        self._tokens, self._seconds = tokens, seconds
        self._losses: list[float] = []
        self._last = math.nan

    def add(self, report: StepReport) -> None:
        self._losses.append(report.loss)

    def read(self, tokens: int, seconds: float) -> tuple[float, float]:
        """Mean loss (the last known one if every update was skipped), and the rate."""
        if self._losses:
            self._last = sum(self._losses) / len(self._losses)
        rate = (tokens - self._tokens) / max(1e-9, seconds - self._seconds)
        self._tokens, self._seconds, self._losses = tokens, seconds, []
        return self._last, rate


def _uncompiled() -> AbstractContextManager[None]:
    """Run a compiled model as it is written: only training steps, which all have one shape, are worth compiling.

    Other shapes would make the compiler give up on the model after a while, and a resumed run would then compute its
    steps in another way than the run that was not interrupted.
    """
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def finished_result(path: Path) -> dict[str, Any] | None:
    """The result of a run that has ended, else None."""
    folder = RunFolder.open(path)
    ended = folder.result_file.is_file() and folder.report.is_file()  # the report is written last
    result: dict[str, Any] | None = read_json(folder.result_file) if ended else None
    return result


def _with_vocabulary(config: RunConfig, shards: Shards) -> RunConfig:
    """The settings with the vocabulary of the shards' tokenizer."""
    return build_config(RunConfig, merge(config.model_dump(), {"model": {"vocab_size": shards.tokenizer.vocab_size}}))
