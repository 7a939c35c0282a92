"""Training steps of GPT-2's shape of 124M parameters on a GPU, beside a plain transformers loop.

    python benchmarks/gpu_step.py                          "not measured" where there is no GPU
    python benchmarks/gpu_step.py --device cpu --tiny      only to see that it works: a tiny shape, anywhere

Both in bf16 under autocast, compiled with torch.compile, with fused attention and fused AdamW, on the same random
tokens, 16 x 1,024 (or half as many, and so on, while that does not fit); they alternate in one process. Ours also runs
with its default optimizer, Muon. Operations of a token as in share_of_ceiling.py; the share is of the GPU's dense bf16
peak as its maker gives it, where known, and of its own measured matrix products. The last line printed is the result as
JSON.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from share_of_ceiling import operations
from tinyslm.hardware.speed import measure_speed
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.stages.pretrain import next_token_loss

GPT2 = {"dim": 768, "depth": 12, "heads": 12, "context": 1024, "vocab_size": 50_304}
TINY = {"dim": 32, "depth": 2, "heads": 2, "context": 32, "vocab_size": 128}
PEAKS = {"H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121}
"""Dense bf16, 10^12 operations a second, from NVIDIA's data sheets (SXM)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each in one round")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"not_measured": "there is no GPU"}))
        return
    warnings.filterwarnings("ignore", module="transformers")
    torch.set_float32_matmul_precision("high")
    config = ModelConfig(family="gpt2", **(TINY if arguments.tiny else GPT2))
    batch, runners = fitting(config, device)
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(arguments.rounds):
        for name, run in runners.items():
            rates[name].append(arguments.steps * batch * config.context / seconds_of(run, arguments.steps, device))
        print(f"round {number + 1}: " + ", ".join(f"{name} {each[-1]:,.0f} tokens/s" for name, each in rates.items()))
    print(json.dumps({"batch": [batch, config.context], **figures(rates, config, device)}))


def fitting(config: ModelConfig, device: torch.device) -> tuple[int, dict[str, Callable[[], object]]]:
    """The largest batch that all of them have the memory for, and the contenders, warm."""
    batch = 16
    while True:
        windows = torch.randint(0, config.vocab_size, (batch, config.context + 1), device=device)
        try:
            runners = {
                "tinyslm, AdamW": ours(config, windows, "adamw"),
                "tinyslm, Muon": ours(config, windows, "muon"),
                PEER: theirs(config, windows),
            }
            for run in runners.values():
                seconds_of(run, 3, device)  # compiles
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        else:
            return batch, runners
        batch //= 2
        runners = {}
        torch.cuda.empty_cache()


PEER = "transformers, torch.compile"


def ours(config: ModelConfig, windows: Tensor, optimizer: str) -> Callable[[], object]:
    torch.manual_seed(0)
    model = Decoder(config).to(windows.device)
    model.model.compile()
    optimizers = Optimizers(model, OptimizerConfig(name=optimizer))
    settings = StepSettings(10**9, len(windows), 1.0, torch.bfloat16, lambda step: 0.01)
    reports = train_steps(model, next_token_loss, lambda: windows, optimizers, settings)
    return lambda: next(reports)


def theirs(config: ModelConfig, windows: Tensor) -> Callable[[], object]:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size, n_embd=config.dim, n_layer=config.depth, n_head=config.heads,
            n_positions=config.context, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=None, eos_token_id=None, attn_implementation="sdpa", use_cache=False,
        )
    ).to(windows.device)  # fmt: skip
    compiled = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    inputs, targets = windows[:, :-1].contiguous(), windows[:, 1:].flatten()

    def step() -> None:
        with torch.autocast(windows.device.type, torch.bfloat16):
            loss = F.cross_entropy(compiled(inputs).logits.flatten(0, 1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def seconds_of(run: Callable[[], object], steps: int, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def figures(rates: dict[str, list[float]], config: ModelConfig, device: torch.device) -> dict:
    """Tokens per second, ratios to the peer, and shares of the peak."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = next((1e3 * teraflops for key, teraflops in PEAKS.items() if key in name), None)
    measured = measure_speed(device).gflops_bf16
    middle = {who: statistics.median(each) for who, each in rates.items()}
    gflops = {who: rate * operations(config) / 1e9 for who, rate in middle.items()}
    return {
        "device": name,
        "parameters": config.parameters,
        "tokens_per_second": middle,
        "share_of_peak": {who: rate / peak for who, rate in gflops.items()} if peak else None,
        "share_of_measured": {who: rate / measured for who, rate in gflops.items()},
        "ratios": {who: ratio(each, rates[PEER]) for who, each in rates.items() if who != PEER},
    }


def ratio(mine: list[float], peer: list[float]) -> dict[str, float]:
    each = [a / b for a, b in zip(mine, peer, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


if __name__ == "__main__":
    main()
