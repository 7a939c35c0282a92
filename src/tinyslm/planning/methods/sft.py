"""Supervised fine-tuning: learn the answers of conversations."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import RowLoader, open_examples, prepare_examples
from tinyslm.data.prepare import prepare as prepare_text
from tinyslm.data.standard_library import documentation
from tinyslm.model.folder import read_model_config
from tinyslm.planning.methods.checking import checked_examples
from tinyslm.planning.methods.method import Job, Method, Prepared
from tinyslm.training.config import RunConfig
from tinyslm.training.replay import FOLDER

EPOCHS = 3.0
"""Default number of epochs."""
ROW_MULTIPLE, SHORTEST_ROW = 64, 256
AT_ONCE = 512
"""Maximum tokens of a micro-batch: its activations take most of the memory."""
UPDATE_TOKENS = 2048
"""Approximate number of tokens per update."""


def prepare(job: Job) -> Prepared:
    """Tokenize the conversations, and choose row length, batch size and number of updates for them."""
    examples = checked_examples(job)
    valid = iter(examples.valid) if job.files.valid else None
    return prepare_conversations(job, iter(examples.conversations), valid)


def prepare_conversations(
    job: Job, conversations: Iterator[Conversation], valid: Iterator[Conversation] | None
) -> Prepared:
    """Prepare conversations that are already read or sampled. valid: those to validate on; None: hold out some."""
    longest = read_model_config(job.base).longest
    skipped: list[str] = []
    prepared = prepare_examples(
        conversations,
        job.out,
        job.tokenizer,
        context=job.config.train.row_tokens or longest,
        valid=valid,
        left_out=lambda place, reason: skipped.append(f"{place} ({reason})"),
    )
    report_skipped(job, skipped)
    if job.config.replay.share:
        prepare_replay(job)
    row = job.config.train.row_tokens or min(row_of(prepared.longest), longest)
    rows = round(rows_of_an_epoch(job.out, row) / (1 - job.config.replay.share))
    return Prepared(fitted(job, row, rows), prepared.left_out, rows, prepared.learned_tokens)


def prepare_replay(job: Job) -> None:
    """Write the shards of general text to mix with the examples. Raises `TinyslmError` if there is no such text."""
    with TemporaryDirectory() as folder:
        paths = list(job.config.replay.text)
        if not paths:
            texts = documentation()
            if not texts:
                raise TinyslmError(
                    "This Python has no documentation to replay.", "Give general text: --replay-text FILE"
                )
            paths = [str(Path(folder) / "documentation.jsonl")]
            Path(paths[0]).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        prepare_text(paths, job.out / FOLDER, tokenizer=job.tokenizer, notify=job.watch.notify)


def row_of(tokens: int) -> int:
    """The row length for examples of at most this many tokens."""
    return -(-max(SHORTEST_ROW, tokens) // ROW_MULTIPLE) * ROW_MULTIPLE


def report_skipped(job: Job, places: list[str]) -> None:
    """Report the number of skipped examples, and the first ones."""
    if places:
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        job.watch.notify(f"{len(places)} conversations were skipped: {', '.join(places[:3])}{more}.")


def fitted(job: Job, row_tokens: int, rows: int, epochs: float = EPOCHS) -> RunConfig:
    """The settings with this row length, and batch sizes and a number of updates for epochs of `rows` rows."""
    config, fixed = job.config, job.given.get("train", {})
    chosen = {"row_tokens": row_tokens}
    if "batch" not in fixed:
        chosen["batch"] = max(1, min(UPDATE_TOKENS // row_tokens, rows))
    batch = chosen.get("batch", config.train.batch)
    if "micro_batch" not in fixed:
        chosen["micro_batch"] = rows_at_once(batch, row_tokens)
    if job.open_length:
        chosen["steps"] = max(1, round((job.files.epochs or epochs) * rows / batch))
    return build_config(RunConfig, merge(config.model_dump(), {"train": chosen}))


def rows_at_once(batch: int, row_tokens: int) -> int:
    """The largest micro-batch, in rows, that divides the batch and has at most `AT_ONCE` tokens, or one row."""
    return max(size for size in range(1, max(1, AT_ONCE // row_tokens) + 1) if batch % size == 0)


def rows_of_an_epoch(data: Path, row_tokens: int) -> int:
    """The number of packed rows in the first epoch of an examples folder."""
    return RowLoader(open_examples(data)[0], context=row_tokens, batch=1, seed=0).rows_of_an_epoch


SFT = Method(
    "sft", rates=(1e-3, 1e-4), prepare=prepare, sections=frozenset({"sft", "replay"}), small_models_faster=True
)
