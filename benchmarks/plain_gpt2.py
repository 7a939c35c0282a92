"""The peer for training: a GPT-2 of transformers in a plain loop (fp32, eager, AdamW)."""

import math
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel


def build(vocab_size: int, dim: int, depth: int, heads: int, context: int) -> GPT2LMHeadModel:
    """A GPT-2 without dropout (short runs on enough text do better without)."""
    config = GPT2Config(
        vocab_size=vocab_size, n_embd=dim, n_layer=depth, n_head=heads, n_positions=context,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def optimizer_of(model: GPT2LMHeadModel, lr: float = 1e-3) -> torch.optim.Optimizer:
    """AdamW with nanoGPT's settings for small models."""
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.1)


def step(model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, windows: Tensor) -> float:
    """One update on windows `[batch, context + 1]`; returns the loss."""
    logits = model(windows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def train_for(model: GPT2LMHeadModel, next_batch: Callable[[], Tensor], seconds: float, lr: float = 1e-3) -> int:
    """Train for a time: 2 % warm-up, then a cosine to a tenth, both over the time; returns the number of updates."""
    warnings.filterwarnings("ignore", module="transformers")
    optimizer = optimizer_of(model, lr)
    model.train()
    start, steps = time.monotonic(), 0
    while (share := (time.monotonic() - start) / seconds) < 1:
        rate = min(1.0, share / 0.02 + 0.01) * (0.55 + 0.45 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        step(model, optimizer, next_batch())
        steps += 1
    return steps
