"""Output projection and cross-entropy with a vocabulary of 50,304: ours against F.cross_entropy on all logits.

    python benchmarks/head_loss.py

Dim 384, 4,096 positions, forward and backward, as in a training step: in bf16 autocast (which takes the peer's logits
to fp32, as always) and in fp32. Each round gives everybody a process of its own, which computes a tiny case, then notes
its memory, then computes the real one a few times; the fastest counts. Gradients are part of the peak. The last line
printed is the result as JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys

SHAPE = {"dim": 384, "vocab_size": 50_304, "positions": 4096}

MEASURE = """
import json, sys, time, torch
from pathlib import Path
from torch.nn import functional as F
from tinyslm.hardware.allocator import keep_freed_memory
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import loss_sum
who, dtype, shape, tries = sys.argv[1], getattr(torch, sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
def memory(field):
    return int(Path("/proc/self/status").read_text().partition(field + ":")[2].split()[0]) * 1024
def once(model, positions):
    hidden = torch.randn(positions, model.config.dim, requires_grad=True)
    targets = torch.randint(0, model.config.vocab_size, (positions,))
    start = time.perf_counter()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        if who == "tinyslm":
            loss = loss_sum(model, hidden, targets)
        else:
            loss = F.cross_entropy(model.logits(hidden), targets, reduction="sum")
    loss.backward()
    model.zero_grad()
    return time.perf_counter() - start
keep_freed_memory()
once(Decoder(ModelConfig(dim=64, depth=1, vocab_size=64)), 16)
model = Decoder(ModelConfig(depth=1, dim=shape["dim"], vocab_size=shape["vocab_size"]))
before = memory("VmRSS")
seconds = min(once(model, shape["positions"]) for _ in range(tries))
print(seconds, memory("VmHWM") - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tries", type=int, default=4, help="in each process")
    arguments = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {}
    for number in range(arguments.rounds):
        for who, dtype in CASES:
            seconds, memory = measure(who, dtype, arguments.tries)
            figures.setdefault(f"{who}, {dtype}", []).append((seconds, memory))
            print(f"round {number + 1}: {who}, {dtype}: {seconds:.2f} s, {memory / 1e6:,.0f} MB", flush=True)
    result = {
        "seconds": {name: statistics.median(seconds for seconds, _ in each) for name, each in figures.items()},
        "peak_mb": {name: statistics.median(memory for _, memory in each) / 1e6 for name, each in figures.items()},
        "ratios": {dtype: ratios(figures, dtype) for dtype in ("bfloat16", "float32")},
    }
    print(json.dumps({**SHAPE, **result}))


CASES = (("tinyslm", "bfloat16"), ("plain", "bfloat16"), ("tinyslm", "float32"), ("plain", "float32"))


def measure(who: str, dtype: str, tries: int) -> tuple[float, float]:
    """Seconds, and bytes over what the process had before."""
    command = [sys.executable, "-c", MEASURE, who, dtype, json.dumps(SHAPE), str(tries)]
    seconds, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(memory)


def ratios(figures: dict[str, list[tuple[float, float]]], dtype: str) -> dict[str, dict[str, float]]:
    """The plain way's seconds and memory over ours, round by round."""
    out = {}
    for column, name in enumerate(("seconds", "memory")):
        pairs = zip(figures[f"plain, {dtype}"], figures[f"tinyslm, {dtype}"], strict=True)
        each = [peer[column] / mine[column] for peer, mine in pairs]
        out[name] = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return out


if __name__ == "__main__":
    main()
