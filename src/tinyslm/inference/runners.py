"""Which runner computes a model, and how many blocks its KV cache has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import psutil
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.native.build import available
from tinyslm.inference.native.runner import NativeRunner, suits
from tinyslm.inference.runner import Runner
from tinyslm.inference.torch_runner import BLOCK, TorchRunner
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.lora import has_adapters, merged_copy
from tinyslm.model.packed import is_packed

RUNNERS = ("native", "torch")
"""The step compiled from C++ for this processor, and the model's own modules on any device."""

CACHED_SEQUENCES = 32
"""The default cache has room for this many sequences of full length, if memory allows."""

MakeRunner = Callable[[Decoder, int], Runner]
"""Makes a runner from a model and the number of cache blocks."""


def make_runner(
    model: Decoder, blocks: int, name: str = "auto", threads: int | None = None, dtype: torch.dtype | None = None
) -> Runner:
    """The runner called `name`; "auto": the native one where the model and the machine allow it, else PyTorch.

    threads: of the native runner; by default as many as PyTorch has. dtype: number format to compute in, by default the
    model's. Adapters are merged; on packed weights, PyTorch applies them separately. Raises `TinyslmError` where
    the native runner was asked for and cannot run the model.
    """
    unsuitable = (suits(model) or available()) if name != "torch" else None
    if name == "native" and unsuitable:
        raise TinyslmError(f"The engine native does not run this model: {unsuitable}.", "Use the engine torch.")
    if name == "torch" or unsuitable:
        merged = not is_packed(model) and (has_adapters(model) or dtype)
        return TorchRunner(merged_copy(model, dtype or model.dtype) if merged else model, blocks)
    precision: Literal["bf16", "fp32"] | None = None
    if dtype and not is_packed(model):
        precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    return NativeRunner(model, blocks, precision=precision, threads=threads or torch.get_num_threads())


def block_count(config: ModelConfig, itemsize: int, cache_tokens: int | None) -> int:
    """How many blocks a cache has: enough for `CACHED_SEQUENCES` full contexts, within a quarter of the free memory.

    At least one full context, and room for one more token.
    """
    least = config.longest // BLOCK + 2
    if cache_tokens is not None:
        return max(least, -(-cache_tokens // BLOCK))
    block_bytes = config.cached_values * BLOCK * itemsize
    fitting = int(psutil.virtual_memory().available) // 4 // block_bytes
    return max(least, min(CACHED_SEQUENCES * (least + 1), fitting))
