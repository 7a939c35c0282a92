"""`finetune`: fine-tune a model on examples, in one call."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyslm.core.config import build_config, merge, override
from tinyslm.core.errors import TinyslmError
from tinyslm.hardware.device import pick_device
from tinyslm.model.folder import find_model, load_tokenizer
from tinyslm.planning.judging import Before, Measurement, judged
from tinyslm.planning.methods import METHODS
from tinyslm.planning.methods.method import LENGTHS, ExampleFiles, Job, Method
from tinyslm.tokenizer.chat import chat_tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.pipeline import Watch, check_config, finish
from tinyslm.training.run import Run
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.stages import first_model, open_stage
from tinyslm.training.world import World

VALIDATED = 4_096
"""Held-out tokens of each validation during training."""
SCORED, SCORED_PER_MINUTE = 20_000, 1_000
"""Held-out tokens to score the model on, before and after: the maximum, and the number per minute of the run."""


def finetune(
    model: str | Path,
    data: Sequence[str | Path] | ExampleFiles,
    out: str | Path,
    *,
    method: str = "sft",
    minutes: float | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tune a model on examples, in the run folder `out`; returns the result.

    model: a model folder or run folder. data: files of examples. method: a name in `METHODS`. minutes: the time of the
    run; three epochs if neither it nor another length is given. settings: nested settings of the run that differ from
    the defaults; `{"lora": {"rank": 0}}` trains all weights.

    The result contains the score on held-out examples after the run, that of the base model in `before`, and in
    `verdict` what changed: `gain` on the examples, `general` text, `better`, and all in `words`. Raises
    `TinyslmError` for examples, a model or settings that cannot be used, and `Interrupted`, after saving, if a signal
    stops the run.
    """
    watch = watch or Watch()
    began = watch.began or time.monotonic()
    files = data if isinstance(data, ExampleFiles) else ExampleFiles(data)
    how, given = METHODS[method], settings or {}
    if files.fields and not how.needed <= files.fields.keys():
        raise TinyslmError(
            f"The fields of {' and '.join(sorted(how.needed, reverse=True))} were not all named.",
            "For instance: --map prompt=Request,answer=Formula",
        )
    if minutes and files.epochs:
        raise TinyslmError("Both minutes and epochs were given.", "Give only one of them.")
    base = find_model(Path(model))
    tokenizer = chat_tokenizer(load_tokenizer(base), base, watch.notify)
    folder = RunFolder(Path(out))
    config = _settings(how, base, minutes, given)
    check_config(folder.path, config)
    measurement = Measurement.of(config)
    with folder.lock:
        folder.check_unused()
        watch.event({"event": "preparing"})
        prepared = how.prepare(Job(base, tokenizer, config, files, folder.data, given, watch))
        _measure_base(measurement, folder, prepared.config, watch)
        run = Run.start(folder, folder.data, prepared.config, spent=time.monotonic() - began)
    return finish(judged(run), watch.event, {"conversations_left_out": dict(prepared.left_out)})


def _measure_base(measurement: Measurement, folder: RunFolder, config: RunConfig, watch: Watch) -> None:
    """Measure the base, for the verdict, and store that in the run folder."""
    if not World.current().leads:
        return
    watch.event({"event": "measuring"})
    stage, config = open_stage(folder.data, config, World())
    model = first_model(config, pick_device(config.train.device))
    Before.take(measurement, model, stage, config).write(folder.path)


def _settings(method: Method, base: Path, minutes: float | None, given: Mapping[str, Any]) -> RunConfig:
    """The usual settings of a method, overridden by those given; the method's `prepare` sets the number of updates."""
    usual: dict[str, Any] = {
        "lora": {"rank": 16},
        "optimizer": {"name": "adamw", "weight_decay": 0.0, "beta2": 0.99},
        "schedule": {"warmup": 0.05, "decay": 0.95},
        "train": {"stage": method.stage, "start_from": str(base), "validation_tokens": VALIDATED},
    }
    scored = SCORED if minutes is None else min(SCORED, int(SCORED_PER_MINUTE * minutes) + 1_000)
    usual["train"] |= {"score_tokens": scored, "compile": "off", "log_every": 1}
    usual = merge(usual, method.settings)
    length = {"train": {"minutes": minutes}} if minutes else {"train": {"steps": 1}}
    if not LENGTHS.isdisjoint(given.get("train", {})):
        length = {}
    values = override(RunConfig, merge(usual, length), given)
    rate = method.rates[0 if int(values.get("lora", {}).get("rank", 0)) else 1]
    values = override(RunConfig, merge(values, {"optimizer": {"lr": rate}}), given)
    return build_config(RunConfig, values)
