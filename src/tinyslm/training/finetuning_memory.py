"""How much memory fine-tuning needs at its fullest moment, and which settings need less.

Adapters differ from a training of all weights (`memory.py`): the weights in the blocks are frozen and in the type of
the products, only adapters have gradients and optimizer state, and only learned tokens reach the output projection. A
quantized base stays as it is stored, and is unpacked one matrix at a time. An engine that writes samples or answers
holds the weights a second time, in its own layout, when the memory of a training step is free.
"""

from __future__ import annotations

from pathlib import Path

import torch

from tinyslm.core.config import build_config, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import size
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.hardware.limits import memory_bytes
from tinyslm.model.config import GATED, ModelConfig
from tinyslm.model.folder import find_model, quantized, read_model_config
from tinyslm.model.loss import chunk_rows
from tinyslm.model.weights import has_weights, weight_files
from tinyslm.training import memory
from tinyslm.training.config import RunConfig

FP32 = memory.FP32
ENGINE = 150 * 10**6
"""Bytes that an engine holds in addition to the weights, most of them for keys and values: measured."""
LOGIT = 10
"""Bytes for each logit held at a time: in the type of the products, in fp32, and its gradient or exponential."""
GAPS = 1.3
"""What adapters keep in addition to the layers, and freed memory that does not fit what comes next: measured."""
SHORTEST_ROW = 128


def peak_bytes(config: RunConfig) -> int:
    """The most memory in bytes that the process of a fine-tuning run holds at once, on a CPU."""
    model = config.model.model_copy(update={"context": config.row_tokens})
    width = pick_dtype(torch.device("cpu"), config.train.dtype).itemsize
    table = model.vocab_size * model.dim
    logits = LOGIT * chunk_rows(model.vocab_size) * model.vocab_size
    process = memory.PROCESS + logits + _second_model(config, width)
    engine = width * model.parameters + ENGINE
    if not config.lora.rank:
        whole = memory.peak_bytes(config.model_copy(update={"model": model})) - memory.PROCESS
        return int(process + whole)
    in_blocks = model.parameters - table * (1 if model.tied else 2)
    trained = config.lora.rank * adapter_width(model)
    standing = width * in_blocks + FP32 * table * (1 if model.tied else 2)
    base = find_model(Path(config.train.start_from))
    if has_weights(base) and quantized(base):
        standing = sum(file.stat().st_size for file in weight_files(base))
    standing += 4 * FP32 * trained
    tokens = (config.train.micro_batch or config.train.batch) * config.row_tokens
    kept = memory.kept_bytes(model, tokens, width, recompute=config.train.checkpoint_activations)
    return int(process + standing + max(GAPS * kept, engine))


def _second_model(config: RunConfig, width: int) -> int:
    """Bytes of the frozen model besides the trained one: a teacher, or the reference of dpo without adapters."""
    if config.train.stage == "dpo" and not config.lora.rank:
        return FP32 * config.model.parameters
    if config.train.stage != "distill_answers":
        return 0
    teacher = read_model_config(find_model(Path(config.train.teacher)))
    tables = teacher.vocab_size * teacher.dim * (1 if teacher.tied else 2)
    return width * (teacher.parameters - tables) + FP32 * tables


def free_bytes(config: RunConfig) -> int:
    """Bytes that are free for the run now, on its device."""
    if pick_device(config.train.device).type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return memory_bytes()[1]


def adapter_width(model: ModelConfig) -> int:
    """Parameters of adapters of rank 1 on all linear layers of the blocks."""
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    attention = 2 * (model.dim + q) + 2 * (model.dim + kv)
    feed_forward = (3 if model.feed_forward in GATED else 2) * (model.dim + model.ffn_dim)
    return model.depth * (attention + feed_forward)


def fitting(config: RunConfig, free: int, *, fixed: bool) -> RunConfig:
    """The settings, or those next to them that need no more than `free` bytes: fewer rows computed at once.

    fixed: whether `micro_batch` was given by the user, and must stay. Raises `TinyslmError`, with settings that fit,
    if these do not.
    """
    if peak_bytes(config) <= free:
        return config
    batch, now = config.train.batch, config.train.micro_batch or config.train.batch
    smaller = [rows for rows in range(now - 1, 0, -1) if batch % rows == 0]
    fits = [one for one in (_with(config, micro_batch=rows) for rows in smaller) if peak_bytes(one) <= free]
    if fits and not fixed:
        return fits[0]
    needed = f"This fine-tuning needs about {size(peak_bytes(config))} of memory, and {size(free)} are free."
    if fits:
        raise TinyslmError(needed, f"Compute fewer rows at once: --train.micro_batch {fits[0].train.micro_batch}")
    least = _with(config, micro_batch=1, checkpoint_activations=True)
    if peak_bytes(least) <= free:
        raise TinyslmError(
            needed, "Compute activations again: --train.micro_batch 1 --train.checkpoint-activations true"
        )
    row = config.row_tokens // 2
    while row >= SHORTEST_ROW and peak_bytes(_with(least, row_tokens=row)) > free:
        row //= 2
    if row >= SHORTEST_ROW:
        remedy = f"Leave out long conversations: --train.row_tokens {row} --train.micro_batch 1 "
        raise TinyslmError(needed, f"{remedy}--train.checkpoint-activations true")
    raise TinyslmError(needed, "Choose a smaller model, or free some memory.")


def _with(config: RunConfig, **train: int | bool) -> RunConfig:
    return build_config(RunConfig, merge(config.model_dump(), {"train": train}))
