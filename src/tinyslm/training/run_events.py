"""The rows of a run's log that describe the run itself and its updates."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tinyslm.training.checkpoint import Progress
from tinyslm.training.config import RunConfig
from tinyslm.training.loop import StepReport
from tinyslm.training.metrics import Meter
from tinyslm.training.stage import Stage


def start_event(config: RunConfig, progress: Progress, steps: int, further: Mapping[str, Any]) -> dict[str, Any]:
    """The start or resumption of a run. steps: of the whole run. further: fields, among them "device" and "dtype"."""
    return {
        "event": "start",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "stage": config.train.stage,
        "steps": steps,
        "tokens_per_step": config.train.batch * config.row_tokens,
        "parameters": config.model.parameters,
        "seconds": round(progress.seconds, 3),
        "minutes": config.train.minutes,
        "resumed_from": progress.step,
        **further,
    }


def step_event(config: RunConfig, progress: Progress, stage: Stage, report: StepReport, meter: Meter) -> dict[str, Any]:
    """An update, with what the meter has seen since the row before."""
    optimizer = config.optimizer
    peak = optimizer.muon_lr if optimizer.name == "muon" else optimizer.lr
    loss, rate = meter.read(progress.tokens, progress.seconds)
    return {
        "event": "step",
        "step": report.step,
        "tokens": progress.tokens,
        "loss": loss,
        **stage.in_units(loss, held_out=False),
        **report.metrics,
        "learning_rate": peak * report.lr_scale,
        "gradient_norm": report.gradient_norm,
        "tokens_per_second": rate,
        "seconds": round(progress.seconds, 3),
    }
