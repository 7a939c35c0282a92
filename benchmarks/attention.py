"""Causal attention for training, forward and backward: ours against PyTorch's, at four shapes.

    python benchmarks/attention.py

The peers are scaled_dot_product_attention and attention written out (bmm, mask, softmax, bmm). All compute in what
training uses on this processor: bf16 where it has instructions for it, else fp32. Queries, keys and values lie as
projections write them, `[batch, seq, heads, head_dim]`; everybody has a turn in each round, of as many repetitions as
fit into the time. The error is the largest difference to fp64, over the largest value there, for the output and each
gradient; freed memory stays with the process, as in training. The last line printed is the result as JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm.hardware.allocator import keep_freed_memory
from tinyslm.hardware.device import DTYPES, pick_dtype
from tinyslm.model.causal import causal_attention
from tinyslm.model.kernels.library import kernels

SHAPES = ((16, 6, 256, 64), (12, 4, 64, 32), (8, 6, 512, 64), (4, 6, 1024, 64))
"""Batch, heads, seq, head_dim: those of shared/MEASURED.md."""
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one turn")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    shapes = []
    for shape in SHAPES:
        found = {"shape": list(shape), **compare(shape, arguments.rounds, arguments.seconds), "errors": errors(shape)}
        print(found, flush=True)
        shapes.append(found)
    result = {"kernel": kernels(numbers()) is not None, "threads": torch.get_num_threads()}
    print(json.dumps({**result, "dtype": name_of(numbers()), "shapes": shapes}))


def compare(shape: tuple[int, ...], rounds: int, seconds: float) -> dict:
    """Milliseconds of each, and the better peer's over ours, round by round."""
    inputs, towards = drawn(shape)
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for way in WAYS.values():
        both_ways(way, inputs, towards)  # warm-up
    for _ in range(rounds):
        for name, way in WAYS.items():
            taken[name].append(time_of(way, inputs, towards, seconds))
    middle = {name: statistics.median(values) for name, values in taken.items()}
    better = min((name for name in WAYS if name != "tinyslm"), key=middle.__getitem__)
    each = [peer / mine for peer, mine in zip(taken[better], taken["tinyslm"], strict=True)]
    ratio = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return {"ms": {name: 1e3 * value for name, value in middle.items()}, "better_peer": better, "ratio": ratio}


def time_of(way: Attend, inputs: list[Tensor], towards: Tensor, seconds: float) -> float:
    """Mean seconds of one forward and backward pass."""
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        both_ways(way, inputs, towards)
        count += 1
    return passed / count


def both_ways(way: Attend, inputs: list[Tensor], towards: Tensor) -> list[Tensor]:
    """The output and the three gradients."""
    y_bhtk = way(*(x.transpose(1, 2) for x in inputs))
    return [y_bhtk, *torch.autograd.grad(y_bhtk, inputs, towards)]


def errors(shape: tuple[int, ...]) -> dict[str, list[float]]:
    """Of each: how far output and gradients are from fp64 at most, as a share of the largest value."""
    inputs, towards = drawn(shape)
    exact = both_ways(written_out, [x.detach().double().requires_grad_() for x in inputs], towards.double())
    return {
        name: [
            ((x.double() - wanted).abs().max() / wanted.abs().max()).item()
            for x, wanted in zip(both_ways(way, inputs, towards), exact, strict=True)
        ]
        for name, way in WAYS.items()
    }


def drawn(shape: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values as projections write them, and a gradient of the output."""
    b, h, t, k = shape
    return [one.requires_grad_() for one in random_heads(3, b, t, h, k)], next(random_heads(1, b, h, t, k))


def random_heads(count: int, *shape: int) -> Iterator[Tensor]:
    return (torch.randn(*shape).to(numbers()) for _ in range(count))


def numbers() -> torch.dtype:
    return pick_dtype(torch.device("cpu"))


def name_of(dtype: torch.dtype) -> str:
    return next(name for name, one in DTYPES.items() if one == dtype)


def ours(q_bhtk: Tensor, k_bhtk: Tensor, v_bhtk: Tensor) -> Tensor:
    return causal_attention(q_bhtk, k_bhtk, v_bhtk, q_bhtk.shape[-1] ** -0.5)


def fused(q_bhtk: Tensor, k_bhtk: Tensor, v_bhtk: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_bhtk, k_bhtk, v_bhtk, is_causal=True)


def written_out(q_bhtk: Tensor, k_bhtk: Tensor, v_bhtk: Tensor) -> Tensor:
    t, k = q_bhtk.shape[-2:]
    scores = (q_bhtk @ k_bhtk.transpose(-2, -1)) * k**-0.5
    return scores.masked_fill(future(t), float("-inf")).softmax(-1) @ v_bhtk


@cache
def future(length: int) -> Tensor:
    """Which keys a query may not see; kept, as peers keep it."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


WAYS: dict[str, Attend] = {"tinyslm": ours, "SDPA": fused, "written out": written_out}

if __name__ == "__main__":
    main()
