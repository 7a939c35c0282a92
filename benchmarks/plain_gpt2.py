"""The peer for training: a GPT-2 of transformers in a plain loop (AdamW), in fp32 or in bf16 by autocast."""

import math
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

WARMUP = 0.02
"""Share of the time in which the learning rate grows."""


def build(vocab_size: int, dim: int, depth: int, heads: int, context: int) -> GPT2LMHeadModel:
    """A GPT-2 with its own initialisation, without dropout (short runs on enough text do better without)."""
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="transformers")
    config = GPT2Config(
        vocab_size=vocab_size, n_embd=dim, n_layer=depth, n_head=heads, n_positions=context, use_cache=False,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def adamw(model: GPT2LMHeadModel, lr: float = 1e-3, *, fused: bool | None = None) -> torch.optim.Optimizer:
    """AdamW with nanoGPT's settings for small models: matrices and tables decay, norms and biases do not."""
    decaying = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), fused=fused)


def step(
    model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, windows: Tensor, dtype: torch.dtype = torch.float32
) -> float:
    """One update on windows `[batch, context + 1]`; returns the loss."""
    with torch.autocast(windows.device.type, dtype, enabled=dtype != torch.float32):
        logits = model(windows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def train_for(
    model: GPT2LMHeadModel,
    next_batch: Callable[[], Tensor],
    seconds: float,
    *,
    lr: float,
    dtype: torch.dtype = torch.float32,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[float]:
    """Train until `seconds` have passed on the clock; yields the loss of each update.

    The learning rate grows for `WARMUP` of the time and then falls to zero as a cosine, at the end of the time.
    """
    optimizer = adamw(model, lr)
    start = clock()
    while (share := (clock() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * lr_scale(share)
        model.train()
        yield step(model, optimizer, next_batch(), dtype)


def lr_scale(share: float) -> float:
    """The learning rate, as a share of its peak, when a share of the time is over."""
    if share < WARMUP:
        return max(0.01, share / WARMUP)
    return 0.5 + 0.5 * math.cos(math.pi * (share - WARMUP) / (1 - WARMUP))
