"""Training steps per second: ours against a plain fp32 loop over transformers' GPT-2 of the same shape.

    python benchmarks/throughput.py

Shape: 6 layers, dim 384, 6 heads, context 256, vocabulary 65 (ours: 64), batch 16; whole steps, optimizer included,
alternating in one process. Ours runs twice: with the default optimizer (Muon) and with AdamW, which the peer uses.
The last line printed is the result as JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

import plain_gpt2
from tinyslm import Decoder, ModelConfig
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stages.pretrain import next_token_loss

BATCH, CONTEXT = 16, 256
SHAPE = {"dim": 384, "depth": 6, "heads": 6, "context": CONTEXT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each in one round")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    runners = {
        "tinyslm, Muon": ours("muon"),
        "tinyslm, AdamW": ours("adamw"),
        "transformers GPT-2, fp32": theirs(),
    }
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run()  # warm-up
    for number in range(arguments.rounds):
        for name, run in runners.items():
            start = time.perf_counter()
            for _ in range(arguments.steps):
                run()
            rates[name].append(arguments.steps * BATCH * CONTEXT / (time.perf_counter() - start))
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:,.0f} tokens/s" for name, values in rates.items())
        )
    peer = rates["transformers GPT-2, fp32"]
    result = {
        "tokens_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratios": {name: ratios(values, peer) for name, values in rates.items() if values is not peer},
    }
    print(json.dumps(result))


def ratios(ours: list[float], peer: list[float]) -> dict[str, float]:
    """Median, least and greatest ratio over the rounds."""
    each = [mine / other for mine, other in zip(ours, peer, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def ours(optimizer: str) -> Callable[[], object]:
    model = Decoder(ModelConfig(vocab_size=64, **SHAPE))
    device = pick_device("cpu")
    windows = torch.randint(0, 64, (BATCH, CONTEXT + 1))
    settings = StepSettings(10**9, BATCH, 1.0, pick_dtype(device), lambda step: 0.01)
    optimizers = Optimizers(model, OptimizerConfig(name=optimizer))
    reports = train_steps(model, next_token_loss, lambda: windows, optimizers, settings)
    return lambda: next(reports)


def theirs() -> Callable[[], object]:
    model = plain_gpt2.build(65, **SHAPE)
    windows = torch.randint(0, 65, (BATCH, CONTEXT + 1))
    optimizer = plain_gpt2.optimizer_of(model)
    return lambda: plain_gpt2.step(model, optimizer, windows)


if __name__ == "__main__":
    main()
