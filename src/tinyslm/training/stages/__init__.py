"""The stages: kinds of training. Each is a value in `STAGES`, opened on a folder of data with the settings of a run."""

from collections.abc import Callable
from pathlib import Path

import torch

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.core.registry import Registry
from tinyslm.model.decoder import Decoder, new_model
from tinyslm.model.folder import find_model, load_model, load_tokenizer, read_model_config
from tinyslm.training.config import RunConfig
from tinyslm.training.stage import Stage
from tinyslm.training.stages.distill import Distill
from tinyslm.training.stages.pretrain import Pretrain
from tinyslm.training.world import World

STAGES: Registry[Callable[[Path, RunConfig, World], Stage]] = Registry("stage")
STAGES.add("pretrain", Pretrain.open)
STAGES.add("distill", Distill.open)


def open_stage(data: Path, config: RunConfig, world: World) -> tuple[Stage, RunConfig]:
    """The stage on a folder of data, and the settings with the shape of the model to start from, or the vocabulary.

    Raises `TinyslmError` for data or a model that does not suit.
    """
    train = config.train
    if train.batch < world.size:
        raise TinyslmError(
            f"A batch of {train.batch} cannot be shared by {world.size} processes.",
            "Give at least one sequence for each: --train.batch",
        )
    if train.start_from:
        shape = read_model_config(find_model(Path(train.start_from))).model_dump()
        config = build_config(RunConfig, {**config.model_dump(), "model": shape})
    stage = STAGES[train.stage](data, config, world)
    if not train.start_from:
        changes = {"model": {"vocab_size": stage.tokenizer.vocab_size}}
        return stage, build_config(RunConfig, merge(config.model_dump(), changes))
    if load_tokenizer(find_model(Path(train.start_from))).sha256 != stage.tokenizer.sha256:
        raise TinyslmError(
            f"The model in {train.start_from} has another tokenizer than the data was prepared with.",
            f"Prepare the data with its tokenizer: --tokenizer {train.start_from}",
        )
    return stage, config


def first_model(config: RunConfig, device: torch.device) -> Decoder:
    """The model that a run begins with, in fp32."""
    if config.train.start_from:
        model = load_model(find_model(Path(config.train.start_from)), device=device, dense=True)
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()  # they may be mapped from the file
        return model
    return new_model(config.model).to(device)
