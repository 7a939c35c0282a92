"""Whole training steps of 1 to 135M parameters: what share of this machine's own matrix products they reach.

    python benchmarks/share_of_ceiling.py
    python benchmarks/share_of_ceiling.py --only 3M 10M

Each size trains in a process of its own with the default settings (the optimizer is Muon), one of them also with AdamW
and with large updates. In each round it takes a few steps, and the rate of matrix products alone (hardware/speed.py) is
measured before: of bf16 where the processor has instructions for it, else of fp32. Operations of a token, forward and
backward:

    6 * (weights of matrices, the output projection's included) + 6 * depth * context * heads * head_dim

The second term are attention's products, of which only the causal half counts. What norms, softmax, the optimizer and
blocks computed again do is not counted, so it lowers the share. The last line printed is the result as JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tinyslm.core.config import build_config
from tinyslm.hardware.allocator import keep_freed_memory
from tinyslm.hardware.device import pick_dtype
from tinyslm.hardware.speed import measure_speed
from tinyslm.model.config import GATED, ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.training.config import RunConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.memory import peak_bytes
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stages.pretrain import next_token_loss

SMOLLM2 = {
    **{"family": "llama", "dim": 576, "depth": 30, "heads": 9, "kv_heads": 3, "ffn_dim": 1536, "tied": True},
    **{"vocab_size": 49152, "context": 512},
}
TEN = {"dim": 384, "depth": 6, "vocab_size": 64, "context": 256}
SIZES: dict[str, dict] = {
    "1M": {"model": {"dim": 128, "depth": 4, "vocab_size": 1024, "context": 256}, "train": {"batch": 16}},
    "3M": {"model": {"dim": 256, "depth": 4, "vocab_size": 64, "context": 256}, "train": {"batch": 16}},
    "10M": {"model": TEN, "train": {"batch": 16}},
    "30M": {"model": {"dim": 512, "depth": 8, "vocab_size": 8192, "context": 512}, "train": {"batch": 8}},
    "135M": {"model": SMOLLM2, "train": {"batch": 8, "micro_batch": 4}},
}
VARIANTS: dict[str, dict] = {
    "10M, AdamW": {**SIZES["10M"], "optimizer": {"name": "adamw"}},
    "10M, large updates": {"model": TEN, "train": {"batch": 128, "micro_batch": 16}},
}
"""What the optimizer costs depends on which it is, and on how many tokens an update has."""
ALL = SIZES | VARIANTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of steps in one round; at least one step is made")
    parser.add_argument("--only", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--alone", choices=list(ALL), help="measure this size in this process")
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure(arguments.alone, arguments.rounds, arguments.seconds)))
        return
    sizes = {}
    for name in arguments.only:
        command = [sys.executable, __file__, "--alone", name]
        command += ["--rounds", str(arguments.rounds), "--seconds", str(arguments.seconds)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        sizes[name] = json.loads(out.splitlines()[-1])
        print(f"{name}: {sizes[name]}", flush=True)
    print(json.dumps(sizes))


def measure(name: str, rounds: int, seconds: float) -> dict:
    """Everything about one size; medians over the rounds, with the least and the greatest share."""
    config = build_config(RunConfig, ALL[name])
    dtype = pick_dtype(torch.device("cpu"), config.train.dtype)
    trainer, per_token = Trainer(config, dtype), operations(config.model)
    trainer.step()  # warm-up
    trainer.step()
    rates, shares, optimizer_shares, ceilings = [], [], [], []
    for _ in range(rounds):
        speed = measure_speed(seconds=1.5)
        ceiling = speed.gflops_bf16 if dtype == torch.bfloat16 else speed.gflops_fp32
        rate, optimizer_share = trainer.rate(seconds)
        ceilings.append(ceiling)
        rates.append(rate)
        shares.append(rate * per_token / 1e9 / ceiling)
        optimizer_shares.append(optimizer_share)
    return {
        "parameters": config.model.parameters,
        "optimizer": config.optimizer.name,
        "batch": [config.train.batch, config.model.context],
        "tokens_per_second": statistics.median(rates),
        "gflops": statistics.median(rates) * per_token / 1e9,
        "ceiling_gflops": statistics.median(ceilings),
        "share": {"median": statistics.median(shares), "low": min(shares), "high": max(shares)},
        "optimizer_share": statistics.median(optimizer_shares),
        "peak_mb": peak_of_process() / 1e6,
        "predicted_peak_mb": peak_bytes(config) / 1e6,
    }


class Trainer:
    """A training on random tokens, with the time in its optimizers measured."""

    def __init__(self, config: RunConfig, dtype: torch.dtype) -> None:
        keep_freed_memory()
        torch.manual_seed(0)
        model = Decoder(config.model)
        model.model.recompute = config.train.checkpoint_activations
        train = config.train
        self.tokens = train.batch * config.model.context
        self.optimizer_seconds = 0.0
        self.optimizers = Optimizers(model, config.optimizer, keep_gradients=train.checkpoint_activations)
        self.optimizers.step = self._timed(self.optimizers.step)  # type: ignore[method-assign]
        windows = torch.randint(0, config.model.vocab_size, (train.batch, config.model.context + 1))
        micro_batch = train.micro_batch or train.batch
        settings = StepSettings(10**9, micro_batch, config.optimizer.clip, dtype, lambda step: 0.01)
        self.reports = train_steps(model, next_token_loss, lambda: windows, self.optimizers, settings)

    def step(self) -> None:
        next(self.reports)

    def rate(self, seconds: float) -> tuple[float, float]:
        """Tokens per second over about this time, and the share of the optimizers."""
        self.optimizer_seconds, steps, start = 0.0, 0, time.perf_counter()
        while not steps or time.perf_counter() - start < seconds:
            self.step()
            steps += 1
        passed = time.perf_counter() - start
        return steps * self.tokens / passed, self.optimizer_seconds / passed

    def _timed(self, step: Callable[[float], None]) -> Callable[[float], None]:
        def timed(share: float) -> None:
            start = time.perf_counter()
            step(share)
            self.optimizer_seconds += time.perf_counter() - start

        return timed


def operations(model: ModelConfig) -> int:
    """Floating-point operations of the products for one token, forward and backward; an addition counts as one."""
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    block = model.dim * (2 * q + 2 * kv) + (3 if model.feed_forward in GATED else 2) * model.dim * model.ffn_dim
    return 6 * (model.depth * block + model.vocab_size * model.dim) + 6 * model.depth * model.context * q


def peak_of_process() -> int:
    """The most memory in bytes that this process had so far."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main()
