"""A model that repeats the last nine bytes of its prompt: a deterministic echo, trained in seconds."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm import Decoder, ModelConfig, save_model, train_tokenizer

PERIOD = 9
CONTEXT = 1024
LENGTHS = (64, 128, 512, CONTEXT)
STEPS = 400
LOWEST, HIGHEST = 32, 127  # printable ASCII


def echo_model(folder: Path) -> Path:
    """Train it: one block, whose heads learn to look nine places back. Raises if it makes a mistake."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([], kind="byte")
    shape = {"dim": 64, "depth": 1, "heads": 2, "context": CONTEXT}
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, init_std=0.05, tied=False, **shape))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    for step in range(STEPS):
        length = LENGTHS[len(LENGTHS) * step // STEPS]
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, 1.3 * (STEPS - step) / STEPS)
        texts_bt, repeats_bt = batch(2048 // length, length)
        logits_btv = model(texts_bt[:, :-1])
        losses_bt = F.cross_entropy(logits_btv.flatten(0, 1), texts_bt[:, 1:].flatten(), reduction="none")
        loss = losses_bt.view_as(repeats_bt)[repeats_bt].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    check(model.eval())
    save_model(model, folder, tokenizer)
    return folder


def batch(count: int, length: int) -> tuple[Tensor, Tensor]:
    """Random text `[b, t]` that from some place on repeats itself, and `[b, t - 1]`: whether the next byte follows."""
    texts_bt = torch.randint(LOWEST, HIGHEST, (count, length))
    starts_b = torch.randint(0, length - 3 * PERIOD, (count,))
    for row, start in enumerate(starts_b.tolist()):
        texts_bt[row, start:] = texts_bt[row, start : start + PERIOD].repeat(length)[: length - start]
    return texts_bt, torch.arange(length - 1) >= starts_b[:, None] + PERIOD - 1


@torch.no_grad()
def check(model: Decoder) -> None:
    """Sure of every byte, in texts of all lengths."""
    for length in (3 * PERIOD + 1, 100, 500, CONTEXT):
        for _ in range(20):
            texts_bt, repeats_bt = batch(32, length)
            right_bt1 = model(texts_bt[:, :-1]).softmax(-1).gather(-1, texts_bt[:, 1:, None])
            surest = right_bt1[repeats_bt].min()
            assert surest > 0.5, f"the echo model is unsure in texts of {length}: {surest:.2f}"
