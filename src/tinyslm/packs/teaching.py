"""Teach a model a pack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinyslm.core.config import build_config, merge
from tinyslm.packs.pack import Pack
from tinyslm.packs.rows import TRAIN_FILE, PackRows, make_rows
from tinyslm.packs.untrained import settings_of_untrained, write_untrained
from tinyslm.planning.finetune import finetune
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.pipeline import Watch
from tinyslm.training.run_folder import RunFolder

NEW_MODEL_ROWS = 5
"""A new model reads so many times the rows of a pack: it is small and fast, and has everything to learn."""


def rows_for(pack: Pack, model: str | Path | int) -> int:
    """How many rows a model learns from by default; see `train_pack`."""
    return pack.rows * (NEW_MODEL_ROWS if isinstance(model, int) else 1)


def train_pack(
    pack: Pack,
    model: str | Path | int,
    out: str | Path,
    *,
    minutes: float | None = None,
    rows: PackRows | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tune a model on the rows of a pack, in the run folder `out`; returns the result of `finetune`.

    model: a model folder or run folder; or the number of parameters of a new model, which is stored in the run folder
    before it learns. rows: by default as many as `rows_for` says. minutes, settings: see `finetune`; the settings
    override those of the pack. The run holds the rows as tokens, and resumes without the pack's generator. Raises
    `TinyslmError` as `finetune` does.
    """
    with TemporaryDirectory() as folder:
        rows, usual, given = rows or make_rows(pack, rows_for(pack, model)), dict(pack.settings), dict(settings or {})
        if str(given.get("lora", {}).get("rank")) == "0":
            usual.pop("optimizer", None)  # a pack's learning rate is for adapters
        if isinstance(model, int):
            run = RunFolder(Path(out))
            run.check_unused()
            wanted = build_config(TokenizerConfig, given.get("tokenizer", {}), "the settings of the tokenizer")
            write_untrained(rows.train, model, run.untrained, wanted=wanted)
            model, usual = run.untrained, merge(usual, settings_of_untrained())
        rows.write(Path(folder) / pack.name)
        data = [Path(folder) / pack.name / TRAIN_FILE]
        return finetune(model, data, out, minutes=minutes, settings=merge(usual, given), watch=watch)
