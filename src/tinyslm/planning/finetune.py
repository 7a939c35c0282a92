"""`finetune`: fine-tune a model on examples, in one call."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinyslm.core.config import build_config, merge, override
from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import absolute_grader
from tinyslm.hardware.device import pick_device
from tinyslm.model.folder import find_model, load_tokenizer, read_model_config
from tinyslm.planning.finetuning_plan import FinetuningPlan, adapter_rank, open_settings
from tinyslm.planning.judging import Measurement, judged
from tinyslm.planning.methods import METHODS, check_sections
from tinyslm.planning.methods.method import LENGTHS, ExampleFiles, Job, Method, Prepared
from tinyslm.planning.rehearsal import Rehearsed, measure_first, rehearse
from tinyslm.tokenizer.chat import chat_tokenizer
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.finetuning_memory import fitting, free_bytes
from tinyslm.training.pipeline import Watch, check_config, finish
from tinyslm.training.run import Run
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.stages import first_shape

VALIDATED = 4_096
"""Held-out tokens of each validation during training."""
SCORED = 20_000
"""Held-out tokens to score the model on, before and after, at most."""


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
    """Fine-tune a model on examples, in the run folder `out`, and return the result.

    model: a model folder or run folder. data: files of examples. method: a name in `METHODS`. minutes: the time of the
    run; three epochs if no length is given. settings: nested settings of the run that differ from the defaults;
    `{"lora": {"rank": 0}}` trains all weights.

    The result contains the score on held-out examples after the run, that of the base model in `before`, and the change
    in `verdict`: `gain` on the examples, `general` text, `better`, and all in `words`. Raises `TinyslmError` for
    examples, a model or settings that cannot be used, and `Interrupted`, after saving, if a signal stops the run.
    """
    order = _Order.of(model, data, method, minutes, settings, watch or Watch())
    folder = RunFolder(Path(out))
    check_config(folder.path, order.config)
    with folder.lock:
        folder.check_unused()
        prepared = order.prepare(folder.data)
        config, rates = measure_first(
            folder,
            folder.data,
            prepared.config,
            order.given,
            rows=prepared.rows,
            began=order.began,
            watch=order.watch,
        )
        run = Run.start(folder, folder.data, config, rates=rates, spent=time.monotonic() - order.began)
    return finish(judged(run), order.watch.event, {"conversations_left_out": dict(prepared.left_out)})


def plan_finetune(
    model: str | Path,
    data: Sequence[str | Path] | ExampleFiles,
    *,
    method: str = "sft",
    minutes: float | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> FinetuningPlan:
    """Plan what `finetune` would do with the same parameters, with its duration and memory.

    Prepares the examples in a temporary folder and times a few updates; writes nothing else. Raises `TinyslmError` as
    `finetune` does.
    """
    order = _Order.of(model, data, method, minutes, settings, watch or Watch())
    with TemporaryDirectory() as folder:
        check_config(Path(folder), order.config)
        return order.rehearse(order.prepare(Path(folder) / "data"), Path(folder) / "data").plan


@dataclass(frozen=True)
class _Order:
    """The caller's request, completed with defaults. measurement: the basis of the verdict."""

    method: Method
    base: Path
    tokenizer: Tokenizer
    files: ExampleFiles
    config: RunConfig
    given: Mapping[str, Any]
    measurement: Measurement
    watch: Watch
    began: float

    @classmethod
    def of(
        cls,
        model: str | Path,
        data: Sequence[str | Path] | ExampleFiles,
        method: str,
        minutes: float | None,
        given: Mapping[str, Any] | None,
        watch: Watch,
    ) -> "_Order":
        """Raises `TinyslmError` for a model, settings or combinations that cannot be used."""
        began = watch.began or time.monotonic()
        files = data if isinstance(data, ExampleFiles) else ExampleFiles(data)
        how, given = METHODS[method], given or {}
        check_sections(method, given)
        if files.fields and not how.needed <= files.fields.keys():
            raise TinyslmError(
                f"The fields of {' and '.join(sorted(how.needed, reverse=True))} were not all named.",
                f"For instance: --map {','.join(f'{name}=NAME' for name in sorted(how.needed, reverse=True))}",
            )
        if minutes and files.epochs:
            raise TinyslmError("Both minutes and epochs were given.", "Give only one of them.")
        base = find_model(Path(model))
        before = load_tokenizer(base)
        tokenizer = chat_tokenizer(before, base, watch.notify)
        config = _settings(how, base, minutes, given)
        if added := sorted(set(tokenizer.special_ids.values()) - set(before.special_ids.values())):
            rows = {"lora": {"token_rows": [*config.lora.token_rows, *added]}}
            config = build_config(RunConfig, merge(config.model_dump(), rows))
        return cls(how, base, tokenizer, files, config, given, Measurement.of(config), watch, began)

    def prepare(self, data: Path) -> Prepared:
        """Write the examples, and fit the settings to them, the base and the free memory."""
        self.watch.event({"event": "preparing"})
        prepared = self.method.prepare(
            Job(self.base, self.tokenizer, self.config, self.files, data, self.given, self.watch)
        )
        shape = first_shape(prepared.config)
        config = build_config(RunConfig, {**prepared.config.model_dump(), "model": shape.model_dump()})
        if config.lora.rank and prepared.learned_tokens and open_settings(self.given, "lora", "rank", "targets"):
            rank = adapter_rank(prepared.learned_tokens, shape)
            config = build_config(RunConfig, merge(config.model_dump(), {"lora": {"rank": rank}}))
        if pick_device(config.train.device).type == "cpu":
            fixed = not open_settings(self.given, "train", "micro_batch")
            config = fitting(config, free_bytes(config), fixed=fixed)
        return replace(prepared, config=config)

    def rehearse(self, prepared: Prepared, data: Path) -> Rehearsed:
        self.watch.event({"event": "measuring"})
        return rehearse(data, prepared.config, self.measurement, self.given, rows=prepared.rows, began=self.began)


def _settings(method: Method, base: Path, minutes: float | None, given: Mapping[str, Any]) -> RunConfig:
    """The defaults of a method, overridden by the given settings; `prepare` sets the number of updates later."""
    usual: dict[str, Any] = {
        "lora": {"rank": 16},
        "optimizer": {"name": "adamw", "weight_decay": 0.0, "beta2": 0.99},
        "schedule": {"warmup": 0.05, "decay": 0.95},
        "train": {"stage": method.stage, "start_from": str(base), "validation_tokens": VALIDATED},
    }
    usual["train"] |= {"score_tokens": SCORED, "compile": "off", "log_every": 1}
    usual = merge(usual, method.settings)
    length = {"train": {"minutes": minutes}} if minutes else {"train": {"steps": 1}}
    if not LENGTHS.isdisjoint(given.get("train", {})):
        length = {}
    values = override(RunConfig, merge(usual, length), given)
    adapters = int(values.get("lora", {}).get("rank", 0)) > 0
    rate = method.rate(read_model_config(base).parameters, adapters=adapters)
    values = override(RunConfig, merge(values, {"optimizer": {"lr": rate}}), given)
    if grader := values["train"].get("grader"):
        values = merge(values, {"train": {"grader": absolute_grader(grader)}})  # a resumed run may begin elsewhere
    return build_config(RunConfig, values)
