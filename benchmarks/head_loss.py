"""Output projection and cross-entropy with a vocabulary of 50,304: ours compared with F.cross_entropy on all logits.

    python benchmarks/head_loss.py

Dim 384, 4,096 positions, forward and backward, as in a training step: in bf16 autocast (which takes the peer's logits
to fp32, as always) and in fp32. In each round every contender has a process of its own, which computes a tiny case,
reads its memory, then computes the real case a few times; the fastest counts. Gradients are part of the peak.
"""

import time
from pathlib import Path

import torch
from torch.nn import functional as F

from harness import alternate, finish, in_process, medians, parser, peak_memory, ratio
from tinyslm.hardware.allocator import keep_freed_memory
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.loss import loss_sum

SHAPE = {"dim": 384, "vocab_size": 50_304, "positions": 4096}
DTYPES = ("bfloat16", "float32")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tries", type=int, default=4, help="in each process")
    arguments = options.parse_args()
    peaks: dict[str, list[float]] = {}

    def one(who: str, dtype: str) -> float:
        seconds, memory = in_process("head_loss.measure", who, dtype, arguments.tries)
        peaks.setdefault(f"{who}, {dtype}", []).append(memory / 1e6)
        return seconds

    ways = {f"{who}, {d}": lambda _, who=who, d=d: one(who, d) for d in DTYPES for who in ("tinyslm", "plain")}
    seconds = alternate(ways, range(arguments.rounds + 1))
    memory = {name: values[1:] for name, values in peaks.items()}
    ratios = {
        dtype: {
            name: ratio(figures[f"plain, {dtype}"], figures[f"tinyslm, {dtype}"])
            for name, figures in (("seconds", seconds), ("memory", memory))
        }
        for dtype in DTYPES
    }
    finish({**SHAPE, "seconds": medians(seconds), "peak_mb": medians(memory), "ratios": ratios})


def measure(who: str, dtype_name: str, tries: int) -> tuple[float, int]:
    """Seconds, and bytes over what the process had before."""
    keep_freed_memory()
    dtype = getattr(torch, dtype_name)
    once(Decoder(ModelConfig(dim=64, depth=1, vocab_size=64)), 16, who, dtype)
    model = Decoder(ModelConfig(depth=1, dim=SHAPE["dim"], vocab_size=SHAPE["vocab_size"]))
    before = 1024 * int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
    seconds = min(once(model, SHAPE["positions"], who, dtype) for _ in range(tries))
    return seconds, peak_memory() - before


def once(model: Decoder, positions: int, who: str, dtype: torch.dtype) -> float:
    """Seconds of one forward and backward pass."""
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


if __name__ == "__main__":
    main()
