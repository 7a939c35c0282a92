"""`train` and `resume`: make a trained and scored model folder with a report from text, in one call each."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyslm.core.config import build_config, merge, override
from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json
from tinyslm.data.shards import given_shards
from tinyslm.data.text import Inputs, Text, reading
from tinyslm.planning.choice import Budget
from tinyslm.planning.continuing import continue_training
from tinyslm.planning.cost import SECONDS
from tinyslm.planning.judging import judged
from tinyslm.planning.plan import FILE, Plan, plan_of, read_plan
from tinyslm.planning.planner import Planner
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import Rates
from tinyslm.training.pipeline import Watch, check_config, finish, start
from tinyslm.training.run import Run
from tinyslm.training.run_folder import RunFolder

MEASURING_SHARE = 0.03
"""Share of a run's time for measuring the machine."""
SHAPE = ("dim", "depth")
"""Settings of the model that exclude planning."""


@dataclass(frozen=True)
class Limits:
    """Limits of a plan in addition to the time: approximate number of parameters, and maximum memory in bytes."""

    parameters: int | None = None
    memory_bytes: int | None = None


def train(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    minutes: float | None = None,
    settings: Mapping[str, Any] | RunConfig | None = None,
    plan: str | Path | Limits | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train a model on the text in `paths` (or on one shards folder), in the run folder `out`, and return the result.

    settings: fixed settings, nested: `{"model": {"context": 512}}`; or all settings. Unless they contain the model's
    shape (`dim`, `depth`), a number of steps or a model to start from, the others are planned for the time (`minutes`,
    by default 10).
    plan: a plan file to use instead, or limits for the plan.

    The result contains the score on held-out documents (`bits_per_byte`, `loss`, ...); the model folder is `out/model`,
    the report `out/report.html`. With a model to start from (`train.start_from`), `verdict` describes the change on
    this text and on general text. Raises `TinyslmError` for text, settings or a folder that cannot be used, and
    `Interrupted`, after saving, if a signal stops the run.
    """
    watch = watch or Watch()
    given: Mapping[str, Any] = settings.model_dump() if isinstance(settings, RunConfig) else settings or {}
    given = merge(given, {"train": {"minutes": minutes}}) if minutes else given
    order = _Order([str(path) for path in paths], Path(out), given, watch.began or time.monotonic(), watch)
    if tokenizer is not None:
        order.tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.load(Path(tokenizer))
    if order.config.train.start_from and order.config.train.stage == "pretrain":
        if (plan is not None and plan != Limits()) or tokenizer is not None:
            raise TinyslmError(
                "A model to continue from already has a shape and a tokenizer.",
                "Leave out --plan, --params, --memory and --tokenizer.",
            )
        return continue_training(order.paths, order.out, given, began=order.began, watch=watch)
    with ExitStack() as stack:
        run = order.begin(plan if isinstance(plan, Limits) else Path(plan) if plan else Limits(), stack)
    return _finished(run, watch)


def resume(out: str | Path, *, settings: Mapping[str, Any] | None = None, watch: Watch | None = None) -> dict[str, Any]:
    """Resume the run in `out` as if it had never stopped, and return the result (immediately if it has ended).

    settings: nested settings, which must equal the run's. Raises `TinyslmError` if they differ, or if `out` is not a
    run folder, and `Interrupted`, after saving, if a signal stops the run.
    """
    watch = watch or Watch()
    folder = RunFolder.open(Path(out))
    if (result := folder.result()) is not None:
        watch.event({"event": "finished", "path": folder.path, "model": folder.model})
        return result
    changed = settings if isinstance(settings, RunConfig) else None
    if settings and changed is None:
        changed = build_config(RunConfig, override(RunConfig, read_json(folder.config_file), settings))
    return _finished(judged(Run.resume(folder.path, changed, watch.notify)), watch)


@dataclass
class _Order:
    """The caller's request."""

    paths: Sequence[str]
    out: Path
    given: Mapping[str, Any]
    began: float
    watch: Watch
    tokenizer: Tokenizer | None = None
    config: RunConfig = field(init=False)

    def __post_init__(self) -> None:
        self.config = build_config(RunConfig, self.given)

    def begin(self, plan: Path | Limits, stack: ExitStack) -> Run:
        """Prepare the text and start the run with the plan in a file, a new plan, or the settings alone."""
        check_config(self.out, self.config)
        if isinstance(plan, Path):
            return self._start(self.paths, read_plan(plan, self.given))  # no rates: it may be from another machine
        if self._is_open():
            source, made = self._plan(plan, stack)
            return self._start(source, made, made.machine.rates(made.settings))
        if plan != Limits():
            raise TinyslmError(
                "--params and --memory limit a plan, and this model's shape or length is given.",
                "Leave them out, or leave out the model's dim and depth and the number of steps.",
            )
        return self._start(self.paths, None)

    def _is_open(self) -> bool:
        """Whether to make a plan: neither a shape nor a number of steps is given."""
        chosen = any(key in self.given.get("model", {}) for key in SHAPE) or self.config.train.start_from
        return not chosen and not self.config.train.steps and "-" not in self.paths

    def _plan(self, limits: Limits, stack: ExitStack) -> tuple[Sequence[str] | Text, Plan]:
        """Read the text (unless it is a shards folder) and plan the run. The text is valid until `stack` closes."""
        train = self.config.train
        self.watch.event({"event": "planning"})
        seconds = SECONDS if train.minutes is None else min(SECONDS, MEASURING_SHARE * 60 * train.minutes)
        source: Sequence[str] | Text = self.paths
        if given_shards(self.paths) is None:
            inputs = Inputs.find(self.paths, self.config.data, self.out)
            source = stack.enter_context(reading(inputs, self.watch.progress))
        planner = Planner.look(
            source, self.given, tokenizer=self.tokenizer, seconds=seconds, progress=self.watch.progress
        )
        length = {"minutes": train.minutes, "tokens": train.tokens or None}
        budget = {**length, "parameters": limits.parameters, "memory_bytes": limits.memory_bytes}
        return source, planner.plan(build_config(Budget, budget, origin="the budget"))

    def _start(self, source: Sequence[str] | Text, plan: Plan | None, rates: Rates | None = None) -> Run:
        watch = self.watch
        if plan:
            watch.event({"event": "plan", "plan": plan})
        watch.event({"event": "preparing"})
        run = start(
            source,
            self.out,
            plan.settings if plan else self.config,
            tokenizer=self.tokenizer,
            rates=rates,
            spent=time.monotonic() - self.began,
            watch=watch,
        )
        if plan:
            plan.write(self.out / FILE)
        return run


def _finished(run: Run, watch: Watch) -> dict[str, Any]:
    """Train to the end. The result of a planned run includes the predictions."""
    names = {"bits_per_byte", "low", "high", "seconds"}
    plan = plan_of(run.folder.path)
    return finish(run, watch.event, {"planned": plan.expectation.model_dump(include=names)} if plan else {})
