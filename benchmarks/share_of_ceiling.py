"""Whole training steps of 1 to 135M parameters: what share of this machine's own matrix products they reach.

    python benchmarks/share_of_ceiling.py
    python benchmarks/share_of_ceiling.py --only 3M 10M

Each size trains in a process of its own with the default settings (the optimizer is Muon), one of them also with AdamW
and with large updates. In each round it takes a few steps, after the rate of matrix products alone was measured
(hardware/speed.py): in bf16 where the processor has instructions for it, else in fp32. Operations of a token, forward
and backward:

    6 * (weights of matrices, the output projection's included) + 6 * depth * context * heads * head_dim

The second term is attention's products, of which only the causal half counts. What norms, softmax, the optimizer and
recomputed blocks do is not counted, so it lowers the share.
"""

import statistics
import time
from collections.abc import Callable

import torch

from harness import finish, in_process, parser, peak_memory, spread
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
from tinyslm.training.stage import Batch
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
    "10M, AdamW": {"model": TEN, "train": {"batch": 16}, "optimizer": {"name": "adamw"}},
    "10M, large updates": {"model": TEN, "train": {"batch": 128, "micro_batch": 16}},
}
"""The last two show that the optimizer's cost depends on which it is, and on how many tokens an update has."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=5.0, help="of steps in one round; at least one step is made")
    options.add_argument("--only", nargs="+", choices=list(SIZES), default=list(SIZES))
    arguments = options.parse_args()
    sizes = {}
    for name in arguments.only:
        sizes[name] = in_process("share_of_ceiling.measure", name, arguments.rounds, arguments.seconds)
        print(f"{name}: {sizes[name]}", flush=True)
    finish(sizes)


def measure(name: str, rounds: int, seconds: float) -> dict:
    """Everything about one size: medians over the rounds."""
    config = build_config(RunConfig, SIZES[name])
    dtype = pick_dtype(torch.device("cpu"), config.train.dtype)
    trainer, per_token = Trainer(config, dtype), operations(config.model)
    trainer.step()  # warm-up
    trainer.step()
    ceilings, rates, optimizer_shares = [], [], []
    for _ in range(rounds):
        speed = measure_speed(seconds=1.5)
        ceilings.append(speed.gflops_bf16 if dtype == torch.bfloat16 else speed.gflops_fp32)
        rate, optimizer_share = trainer.rate(seconds)
        rates.append(rate)
        optimizer_shares.append(optimizer_share)
    return {
        "parameters": config.model.parameters,
        "optimizer": config.optimizer.name,
        "batch": [config.train.batch, config.model.context],
        "tokens_per_second": statistics.median(rates),
        "gflops": statistics.median(rates) * per_token / 1e9,
        "ceiling_gflops": statistics.median(ceilings),
        "share": spread(rate * per_token / 1e9 / ceiling for rate, ceiling in zip(rates, ceilings, strict=True)),
        "optimizer_share": statistics.median(optimizer_shares),
        "peak_mb": peak_memory() / 1e6,
        "predicted_peak_mb": peak_bytes(config) / 1e6,
    }


class Trainer:
    """A training on random tokens, with the time in its optimizers measured."""

    def __init__(self, config: RunConfig, dtype: torch.dtype) -> None:
        keep_freed_memory()
        torch.manual_seed(0)
        model, train = Decoder(config.model), config.train
        model.model.recompute = train.checkpoint_activations
        self.tokens = train.batch * config.model.context
        self.optimizer_seconds = 0.0
        optimizers = Optimizers(model, config.optimizer, keep_gradients=train.checkpoint_activations)
        optimizers.step = self._timed(optimizers.step)  # type: ignore[method-assign]
        windows = torch.randint(0, config.model.vocab_size, (train.batch, config.model.context + 1))
        settings = StepSettings(
            10**9, train.micro_batch or train.batch, config.optimizer.clip, dtype, lambda step: 0.01
        )
        batch = Batch.of_windows(windows)
        self.reports = train_steps(model, next_token_loss, lambda: batch, optimizers, settings)

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
        def timed(scale: float) -> None:
            start = time.perf_counter()
            step(scale)
            self.optimizer_seconds += time.perf_counter() - start

        return timed


def operations(model: ModelConfig) -> int:
    """Floating-point operations of the products for one token, forward and backward; an addition counts as one."""
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    block = model.dim * (2 * q + 2 * kv) + (3 if model.feed_forward in GATED else 2) * model.dim * model.ffn_dim
    return 6 * (model.depth * block + model.vocab_size * model.dim) + 6 * model.depth * model.context * q


if __name__ == "__main__":
    main()
