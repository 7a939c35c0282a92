"""Continue the training of a model on more text, and judge the change on this text and on general text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyslm.core.config import build_config, merge, override
from tinyslm.data.shards import Shards
from tinyslm.hardware.device import pick_device
from tinyslm.model.folder import find_model, load_tokenizer, read_model_config
from tinyslm.planning.finetuning_plan import open_settings
from tinyslm.planning.judging import Measurement, judged
from tinyslm.planning.rehearsal import measure_first
from tinyslm.training.config import RunConfig
from tinyslm.training.finetuning_memory import fitting, free_bytes
from tinyslm.training.pipeline import Watch, check_config, finish, prepare_shards
from tinyslm.training.run import Run
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.stages import first_shape

LONGEST_ROW = 512
"""Maximum tokens of a row: models with a longer context learn as well from shorter rows, in less memory."""
UPDATE_TOKENS = 4096
SCORED = 20_000
"""Approximate number of held-out tokens to score the model on, before and after."""
ADAPTERS_RATE = 1e-3
"""The peak learning rate of adapters, and the limit for all weights."""
RATE_WIDTH = 0.0576
"""The peak learning rate of all weights, times the model's width: 1e-4 for a width of 576 (docs/LOG.md)."""

USUAL: Mapping[str, Any] = {
    "optimizer": {"name": "adamw", "weight_decay": 0.0, "beta2": 0.99},
    "schedule": {"warmup": 0.05, "decay": 0.95},
    "train": {"validation_tokens": 4_096, "score_tokens": SCORED, "compile": "off", "log_every": 1},
}
"""Default settings for trained models."""


def continue_training(
    paths: Sequence[str], out: Path, given: Mapping[str, Any], *, began: float, watch: Watch
) -> dict[str, Any]:
    """Train the model in `train.start_from` on text, in the run folder `out`, and return the result.

    given: the settings that the caller fixed, nested; the others are chosen for the model, the text and the time.
    began: start of the work, by `time.monotonic`. The result has the score on held-out documents, that of the model
    before training in `before`, and the change in `verdict`. Raises what `train` raises.
    """
    config = _settings(given)
    folder = RunFolder(out)
    check_config(folder.path, config)
    Measurement.of(config)  # raises for unusable general text
    with folder.lock:
        folder.check_unused()
        watch.event({"event": "preparing"})
        tokenizer = load_tokenizer(find_model(Path(config.train.start_from)))
        shards = prepare_shards(paths, folder, config, tokenizer, watch)
        config = _fitted(config, given, shards)
        rows = shards.split("train").tokens // config.row_tokens
        config, rates = measure_first(folder, shards.folder, config, given, rows=rows, began=began, watch=watch)
        run = Run.start(folder, shards.folder, config, rates=rates, spent=time.monotonic() - began)
    return finish(judged(run), watch.event)


def _settings(given: Mapping[str, Any]) -> RunConfig:
    values = override(RunConfig, USUAL, given)
    rate = ADAPTERS_RATE
    if not int(values.get("lora", {}).get("rank", 0)):
        rate = min(rate, RATE_WIDTH / read_model_config(find_model(Path(values["train"]["start_from"]))).dim)
    config = build_config(RunConfig, override(RunConfig, merge(values, {"optimizer": {"lr": rate}}), given))
    scored = {"score_tokens": config.train.score_tokens or SCORED}  # 0 where the caller gave all settings
    return build_config(RunConfig, merge(config.model_dump(), {"train": scored}))


def _fitted(config: RunConfig, given: Mapping[str, Any], shards: Shards) -> RunConfig:
    """The settings with the model's shape, and rows and batches chosen for it, the text and the free memory."""
    shape = first_shape(config)
    config = build_config(RunConfig, {**config.model_dump(), "model": shape.model_dump()})
    chosen: dict[str, int] = {}
    if open_settings(given, "train", "row_tokens"):
        chosen["row_tokens"] = max(1, min(LONGEST_ROW, shape.longest, shards.split("train").tokens - 1))
    if open_settings(given, "train", "batch"):
        chosen["batch"] = max(1, UPDATE_TOKENS // (chosen.get("row_tokens") or config.row_tokens))
    config = build_config(RunConfig, merge(config.model_dump(), {"train": chosen}))
    if pick_device(config.train.device).type == "cpu":
        config = fitting(config, free_bytes(config), fixed=not open_settings(given, "train", "micro_batch"))
    return config
