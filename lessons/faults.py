"""Seven small training runs, six of them with a fault, to show what typical faults look like.

    python faults.py OUT.json

Each trains the model of tiny.py, in the same folder, on chapters of Python's own documentation, from the
same first weights and with the same batches. What differs is what its entry in RUNS says. OUT.json has, for each run,
the loss and the gradient norm during training, and a sample of the trained model; `tinyslm learn` makes a quiz of it.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean
from unittest.mock import patch

import tiny
import torch
from torch import nn
from torch.nn import functional as F

WIDTH, DEPTH, CONTEXT, BATCH, MERGES, STEPS = 128, 3, 64, 8, 192, 240
RATE, WARM_UP, COOL_DOWN = 1e-2, 0.1, 0.6  # the highest learning rate, and shares of the updates
EACH, BIN = 20, 10  # the first updates are recorded one by one, the others as means of so many
PROMPT, WRITTEN = "The statement", 60  # tokens
attend = F.scaled_dot_product_attention


def no_norm(model):
    """Remove all normalization layers."""
    for parent in [*model.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.RMSNorm):
                setattr(parent, name, nn.Identity())


def no_residual(model):
    """Each part replaces the stream. (Output projections that start at 0 would make all activations 0.)"""
    for layer in model.layers:
        nn.init.normal_(layer.self_attn.o_proj.weight, std=0.02)
        nn.init.normal_(layer.mlp.down_proj.weight, std=0.02)
        layer.forward = lambda x_btd, layer=layer: layer.mlp(
            layer.post_attention_layernorm(layer.self_attn(layer.input_layernorm(x_btd)))
        )


@dataclass(frozen=True)
class Run:
    """What differs from a healthy run. rate: factor of the learning rate."""

    rate: float = 1.0
    warm_up: float = WARM_UP
    change: Callable[[tiny.Model], None] = lambda model: None
    mask: bool = True


RUNS = {
    "healthy": Run(),
    "learning rate too high": Run(rate=30.0),
    "learning rate too low": Run(rate=0.005),
    "no warm-up": Run(warm_up=0.0),
    "no mask": Run(mask=False),
    "no residual": Run(change=no_residual),
    "no norm": Run(change=no_norm),
}


@dataclass(frozen=True)
class Record:
    """What a run shows. losses, gradients: at each of `recorded()`. whole, past: the loss on held-out text when the
    model gets whole windows, and when it gets only what stands before each token that it predicts."""

    losses: list[float]
    gradients: list[float]
    whole: float
    past: float
    text: str


def recorded(steps):
    """The updates of each recorded value: (first, last), counting from 1."""
    return [(n, n) for n in range(1, min(EACH, steps) + 1)] + [(n + 1, n + BIN) for n in range(EACH, steps, BIN)]


def learning_rate(run, step, steps):
    """It rises linearly during the warm-up, and falls linearly to 0 in the last part of the run."""
    rise = (step + 1) / steps / run.warm_up if run.warm_up else 1.0
    return run.rate * RATE * min(1.0, rise, (1.0 - step / steps) / COOL_DOWN)


def trained(run, model, ids, steps):
    """The loss and the norm of the gradient at each update."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    losses, norms = [], []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(run, step, steps)
        starts = torch.randint(len(ids) - CONTEXT, (BATCH,))
        loss = model.loss(torch.stack([ids[start : start + CONTEXT + 1] for start in starts]))
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.get_total_norm([weight.grad for weight in model.parameters() if weight.grad is not None]))
        optimizer.step()
        losses.append(loss.item())
    return losses, [float(norm) for norm in norms]


@torch.no_grad()
def held_out(model, ids, windows=16):
    """`Record.whole` and `Record.past`."""
    cuts = ids.unfold(0, CONTEXT + 1, CONTEXT + 1)[:windows]
    past = [F.cross_entropy(model(cuts[:, :n])[:, -1], cuts[:, n]).item() for n in range(1, CONTEXT + 1)]
    return model.loss(cuts).item(), mean(past)


def record(run, tokenizer, learned, kept, steps):
    """Train once, and return what the quiz shows."""
    torch.manual_seed(1)
    model = tiny.Model(tiny.config_of(tokenizer.end + 1, WIDTH, DEPTH, CONTEXT))
    run.change(model)
    torch.manual_seed(2)

    def attention(*qkv, is_causal, **options):
        return attend(*qkv, is_causal=is_causal and run.mask, **options)

    with patch.object(F, "scaled_dot_product_attention", attention):
        losses, norms = trained(run, model, learned, steps)
        whole, past = held_out(model, kept)
        torch.manual_seed(3)
        text = tokenizer.decode(tiny.sample(model, tokenizer.encode(PROMPT), WRITTEN))
    means = [[shown(mean(one[first - 1 : last])) for first, last in recorded(steps)] for one in (losses, norms)]
    return Record(*means, shown(whole), shown(past), text)


def shown(value):
    """Five significant digits; None for infinity and NaN."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def main(out, steps=STEPS):
    text = "\n\n".join(topics[name] for name in sorted(topics))
    cut = len(text) * 19 // 20
    tokenizer = tiny.Tokenizer.learn(text[:cut], MERGES)
    learned, kept = (torch.tensor(tokenizer.encode(part)) for part in (text[:cut], text[cut:]))
    runs = {}
    for name, run in RUNS.items():
        runs[name] = asdict(record(run, tokenizer, learned, kept, steps))
        print(name, {key: runs[name][key] for key in ("whole", "past", "text")}, flush=True)
    shape = {"vocab_size": tokenizer.end + 1, "width": WIDTH, "depth": DEPTH, "context": CONTEXT, "batch": BATCH}
    found = {"shape": shape, "steps": [last for _, last in recorded(steps)], "prompt": PROMPT, "runs": runs}
    out.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
