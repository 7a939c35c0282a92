"""`finetune`: fine-tune a model on rows of examples, in one call."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.config import build_config, merge, override
from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import read_conversations
from tinyslm.data.examples import Prepared, RowLoader, open_examples, prepare_examples
from tinyslm.model.folder import find_model, load_tokenizer, read_model_config
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.pipeline import Watch, check_config, finish
from tinyslm.training.run import Run
from tinyslm.training.run_folder import RunFolder

EPOCHS = 3
"""Epochs if neither a time nor a number of updates is given."""
ROW_MULTIPLE, SHORTEST_ROW = 64, 256
VALIDATED = 4_096
"""Held-out tokens of each validation during training."""
LENGTHS = {"steps", "tokens", "minutes"}
AT_ONCE = 2048
"""Tokens that are computed at once: what they leave for the backward pass takes most of the memory."""
UPDATE_TOKENS = 2048
"""Approximate number of tokens per update."""
SCORED, SCORED_PER_MINUTE = 20_000, 1_000
"""Held-out tokens to score the model on, before and after: the maximum, and the number per minute of the run."""
RATES = {"adapters": 1e-3, "all weights": 1e-4}
"""Peak learning rates of AdamW."""


@dataclass(frozen=True)
class Rows:
    """Files of rows; see `read_conversations`.

    valid: files to validate on; by default 5 % of the rows are held out. fields: the names of the rows' fields, if they
    are not the usual ones.
    """

    paths: Sequence[str | Path]
    valid: Sequence[str | Path] = ()
    fields: Mapping[str, str] | None = None


def finetune(
    model: str | Path,
    data: Sequence[str | Path] | Rows,
    out: str | Path,
    *,
    minutes: float | None = None,
    epochs: float | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tune a model on conversations, in the run folder `out`; returns the result.

    model: a model folder or run folder. data: files of rows. minutes or epochs: the length of the run; three epochs if
    neither is given. settings: nested settings of the run that differ from the defaults; `{"lora": {"rank": 0}}` trains
    all weights.

    The result contains the loss on held-out answers after the run and, in `before`, that of the base model. Raises
    `TinyslmError` for rows, a model or settings that cannot be used, and `Interrupted`, after saving, if a signal stops
    the run.
    """
    watch = watch or Watch()
    began = watch.began or time.monotonic()
    rows = data if isinstance(data, Rows) else Rows(data)
    if rows.fields and not {"prompt", "answer"} <= rows.fields.keys():
        raise TinyslmError("The fields of the prompt and the answer were not both named.", "Name both of them.")
    if minutes and epochs:
        raise TinyslmError("Both minutes and epochs were given.", "Give only one of them.")
    base = find_model(Path(model))
    tokenizer = _chat_tokenizer(load_tokenizer(base), base, watch.notify)
    folder = RunFolder(Path(out))
    config = _settings(base, minutes, settings or {})
    check_config(folder.path, config)
    with folder.lock:
        folder.check_unused()
        watch.event({"event": "preparing"})
        prepared = _prepare(folder.data, tokenizer, config, rows, watch)
        config = _fitted(config, prepared, folder.data, epochs, given=settings or {})
        run = Run.start(folder, folder.data, config, spent=time.monotonic() - began)
    try:
        before = dict(run.stage.score(run.model, run.score_tokens, lambda: None))
    except BaseException:
        run.close()
        raise
    return finish(run, watch.event, {"before": before, "conversations_left_out": dict(prepared.left_out)})


def _settings(base: Path, minutes: float | None, given: Mapping[str, Any]) -> RunConfig:
    """The default settings, overridden by those given. `_fitted` sets the number of updates once the data is known."""
    usual: dict[str, Any] = {
        "lora": {"rank": 16},
        "optimizer": {"name": "adamw", "weight_decay": 0.0, "beta2": 0.99},
        "schedule": {"warmup": 0.05, "decay": 0.95},
        "train": {"stage": "sft", "start_from": str(base), "validation_tokens": VALIDATED},
    }
    scored = SCORED if minutes is None else min(SCORED, int(SCORED_PER_MINUTE * minutes) + 1_000)
    usual["train"] |= {"score_tokens": scored, "compile": "off", "log_every": 1}
    length = {"train": {"minutes": minutes}} if minutes else {"train": {"steps": 1}}
    if not LENGTHS.isdisjoint(given.get("train", {})):
        length = {}
    values = override(RunConfig, merge(usual, length), given)
    rank = int(values.get("lora", {}).get("rank", 0))
    rate = RATES["adapters" if rank else "all weights"]
    values = override(RunConfig, merge(values, {"optimizer": {"lr": rate}}), given)
    return build_config(RunConfig, values)


def _fitted(
    config: RunConfig, prepared: Prepared, data: Path, epochs: float | None, given: Mapping[str, Any]
) -> RunConfig:
    """The settings with a row length, a batch size and a number of updates that suit the data."""
    fixed, chosen = given.get("train", {}), dict[str, int]()
    longest = read_model_config(Path(config.train.start_from)).longest
    row = -(-max(SHORTEST_ROW, prepared.longest) // ROW_MULTIPLE) * ROW_MULTIPLE
    chosen["row_tokens"] = config.train.row_tokens or min(row, longest)
    rows = RowLoader(open_examples(data)[0], context=chosen["row_tokens"], batch=1, seed=0).rows_of_an_epoch
    if "batch" not in fixed:
        chosen["batch"] = max(1, min(UPDATE_TOKENS // chosen["row_tokens"], rows))
    batch = chosen.get("batch", config.train.batch)
    if "micro_batch" not in fixed:
        fitting = max(1, AT_ONCE // chosen["row_tokens"])
        chosen["micro_batch"] = max(size for size in range(1, fitting + 1) if batch % size == 0)
    if not config.train.minutes and LENGTHS.isdisjoint(fixed):
        chosen["steps"] = max(1, round((epochs or EPOCHS) * rows / batch))
    return build_config(RunConfig, merge(config.model_dump(), {"train": chosen}))


def _prepare(
    out: Path,
    tokenizer: Tokenizer,
    config: RunConfig,
    rows: Rows,
    watch: Watch,
) -> Prepared:
    context = config.train.row_tokens or read_model_config(Path(config.train.start_from)).longest
    places: list[str] = []

    def left_out(place: str, reason: str) -> None:
        places.append(f"{place} ({reason})")

    prepared = prepare_examples(
        read_conversations(rows.paths, rows.fields),
        out,
        tokenizer,
        context=context,
        valid=read_conversations(rows.valid, rows.fields) if rows.valid else None,
        left_out=left_out,
    )
    if places:
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        watch.notify(f"{len(places)} conversations were skipped: {', '.join(places[:3])}{more}.")
    return prepared


def _chat_tokenizer(tokenizer: Tokenizer, base: Path, notify: Callable[[str], None]) -> Tokenizer:
    """The tokenizer with a chat template: its own, or ChatML if its vocabulary has the ChatML tokens.

    Raises `TinyslmError` for a tokenizer with neither.
    """
    if tokenizer.chat_template is not None:
        return tokenizer
    if {"<|im_start|>", "<|im_end|>"} <= tokenizer.special_ids.keys():
        notify(f"{base} has no chat template; the run uses ChatML and saves it with the model.")
        return tokenizer.with_template(CHATML)
    raise TinyslmError(
        f"The model in {base} has no chat template, and its tokenizer has no ChatML tokens.",
        "Use a model that tinyslm trained, or a chat model.",
    )
