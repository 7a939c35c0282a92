"""The stages: kinds of training. Each is a value in `STAGES`, opened on a folder of data with the settings of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.core.registry import Registry
from tinyslm.hardware.allocator import return_freed_memory
from tinyslm.hardware.device import pick_dtype
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder, new_model
from tinyslm.model.folder import (
    find_model,
    holds_conversations,
    load_model,
    load_tokenizer,
    origin_of,
    read_model_config,
    save_model,
)
from tinyslm.model.lora import adapter_tensors, add_adapters, merge_adapters, narrow_frozen, save_adapters
from tinyslm.model.packed import hold_once
from tinyslm.model.token_rows import enlarge
from tinyslm.tokenizer.chat import with_chatml
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.stage import Stage
from tinyslm.training.stages.distill_answers import DistillAnswers
from tinyslm.training.stages.distill_text import DistillText
from tinyslm.training.stages.dpo import Dpo
from tinyslm.training.stages.grpo import Grpo
from tinyslm.training.stages.pretrain import Pretrain
from tinyslm.training.stages.sft import Sft
from tinyslm.training.world import World

STAGES: Registry[Callable[[Path, RunConfig, World], Stage]] = Registry("stage")
STAGES.add("pretrain", Pretrain.open)
STAGES.add("distill_text", DistillText.open)
STAGES.add("sft", Sft.open)
STAGES.add("distill_answers", DistillAnswers.open)
STAGES.add("dpo", Dpo.open)
STAGES.add("grpo", Grpo.open)


def open_stage(data: Path, config: RunConfig, world: World) -> tuple[Stage, RunConfig]:
    """The stage on a folder of data, and the settings with the shape of the model to start from, or the vocabulary.

    Raises `TinyslmError` for data or a model that does not suit.
    """
    train = config.train
    shared, what, key = train.batch, "sequences", "train.batch"
    if train.stage == "grpo":
        shared, what, key = config.grpo.prompts, "prompts", "grpo.prompts"
    if shared < world.size:
        raise TinyslmError(
            f"{shared} {what} in an update cannot be shared by {world.size} processes.",
            f"Start at most {shared} processes, or give more {what}: --{key} {world.size}",
        )
    if train.start_from:
        config = build_config(RunConfig, {**config.model_dump(), "model": first_shape(config).model_dump()})
    stage = STAGES[train.stage](data, config, world)
    if not train.start_from:
        changes = {"model": {"vocab_size": stage.tokenizer.vocab_size}}
        return stage, build_config(RunConfig, merge(config.model_dump(), changes))
    base = load_tokenizer(find_model(Path(train.start_from)))
    known = {base.sha256, with_chatml(base).sha256} if config.lora.token_rows else {base.sha256}
    if stage.tokenizer.sha256 not in known:
        raise TinyslmError(
            f"The model in {train.start_from} has another tokenizer than the data was prepared with.",
            f"Prepare the data with its tokenizer: --tokenizer {train.start_from}",
        )
    return stage, config


def first_shape(config: RunConfig) -> ModelConfig:
    """The shape of the model that a run starts from, with the tokens that are added to its vocabulary."""
    shape = read_model_config(find_model(Path(config.train.start_from)))
    vocab_size = max([shape.vocab_size, *(token + 1 for token in config.lora.token_rows)])
    return shape.model_copy(update={"vocab_size": vocab_size})


def first_model(config: RunConfig, device: torch.device) -> Decoder:
    """The model that a run begins with, in fp32; a quantized one that only gets adapters stays packed (QLoRA)."""
    if config.train.start_from:
        base = find_model(Path(config.train.start_from))
        model = load_model(base, device=device, dense=not config.lora.rank, mapped=False)
        hold_once(model)
        if config.lora.rank:
            add_adapters(model, config.lora)
            narrow_frozen(model, pick_dtype(device, config.train.dtype))
        else:
            enlarge(model, max((token + 1 for token in config.lora.token_rows), default=0))
        return model
    return new_model(config.model).to(device)


def save_result(
    model: Decoder, tokenizer: Tokenizer, config: RunConfig, folder: RunFolder, result: Mapping[str, Any]
) -> None:
    """Write a run's model folder; of a model with adapters these too, and the base with them in its weights.

    The memory of a model with adapters is freed for the merged one.
    """
    if config.lora.rank:
        base = find_model(Path(config.train.start_from))
        save_adapters(model, folder.adapter, config.lora, base, tokenizer)
        device, adapters = model.device, adapter_tensors(model)
        model.to("meta")
        return_freed_memory()
        whole = load_model(
            base, device=device, dense=True, mapped=False
        )  # the frozen weights may be narrower than the base's
        add_adapters(whole, config.lora)
        whole.load_state_dict(adapters, strict=False)
        merge_adapters(whole)
        model = whole
    record = dict(result)
    if config.train.start_from:
        start = find_model(Path(config.train.start_from))
        record["base"] = origin_of(start)
        if holds_conversations(start):
            record["chat_model"] = True
    save_model(model, folder.model, tokenizer, record)
