"""A small model with random weights and a vocabulary of its own, to learn a pack from nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import count
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import new_model
from tinyslm.model.folder import save_model
from tinyslm.packs.pack import Row
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.training import train_as, train_tokenizers
from tinyslm.training.config import OptimizerConfig, ScheduleConfig

VOCABULARIES = (320, 512, 1024, 2048)
"""Of these, the largest for which there is enough text. The texts of a pack use few words."""
CONTEXT = 1024
DIMS = range(64, 1025, 64)
WIDTHS_OF_BLOCK = (40, 16, 28, 60)
"""Widths for each block, the best first."""
UPDATE_ROWS = 8
WITHIN = 2.0
"""The parameters that are asked for are met within this factor."""


def write_untrained(
    rows: Iterable[Row], parameters: int, folder: Path, *, wanted: TokenizerConfig | None = None, seed: int = 1
) -> None:
    """Write the model folder of a new model of about so many parameters, with a tokenizer trained on the rows.

    wanted: the settings of the tokenizer; see `train_tokenizer`. Raises `TinyslmError` for a number of parameters that
    no shape comes near.
    """
    texts = (str(message["content"]) for row in rows for message in row["messages"])
    wanted = wanted or TokenizerConfig()
    if wanted.kind == "bpe" and not wanted.vocab_size:
        tokenizers = train_tokenizers(texts, VOCABULARIES, like=wanted)
        tokenizer = tokenizers[max(tokenizers)]
    else:
        tokenizer = train_as(wanted, texts)
    config = shape_of(parameters, tokenizer.vocab_size)
    torch.manual_seed(seed)
    save_model(new_model(config), folder, tokenizer, training={"chat_model": True})


def shape_of(parameters: int, vocab_size: int) -> ModelConfig:
    """The shape with about so many parameters. Raises `TinyslmError` if there is none."""
    shapes = [
        ModelConfig(dim=dim, depth=max(2, dim // width), vocab_size=vocab_size, context=CONTEXT, tied=True)
        for dim in DIMS
        for width in WIDTHS_OF_BLOCK
    ]
    nearest = min(shapes, key=lambda shape: abs(shape.parameters - parameters))
    if not 1 / WITHIN <= nearest.parameters / parameters <= WITHIN:
        least, most = (count(shape.parameters) for shape in (shapes[0], shapes[-1]))
        raise TinyslmError(
            f"No new model has about {count(parameters)} parameters.", f"Ask for {least} to {most}: --params"
        )
    return nearest


def settings_of_untrained() -> Mapping[str, Any]:
    """Settings of `finetune` for a model that knows nothing: all weights learn, as in pretraining."""
    return {
        "lora": {"rank": 0},
        "optimizer": OptimizerConfig().model_dump(),
        "schedule": ScheduleConfig().model_dump(),
        "train": {"batch": UPDATE_ROWS},
    }
