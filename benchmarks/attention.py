"""Causal attention for training, forward and backward: ours compared with PyTorch's, at four shapes.

    python benchmarks/attention.py

The peers are scaled_dot_product_attention and attention written out (bmm, mask, softmax, bmm). All compute in what
training uses on this processor: bf16 where it has instructions for it, else fp32. Queries, keys and values lie as
projections write them, `[batch, seq, heads, head_dim]`. In each round every contender runs for some time.
"""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import alternate, finish, medians, parser, ratio
from tinyslm.hardware.allocator import keep_freed_memory
from tinyslm.hardware.device import DTYPES, pick_dtype
from tinyslm.model.causal import causal_attention
from tinyslm.model.kernels.library import kernels

SHAPES = ((16, 6, 256, 64), (12, 4, 64, 32), (8, 6, 512, 64), (4, 6, 1024, 64))
"""Batch, heads, seq, head_dim."""
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=float, default=0.5, help="of each contender in one round")
    arguments = options.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    dtype = pick_dtype(torch.device("cpu"))
    shapes = [measure(shape, dtype, arguments.rounds, arguments.seconds) for shape in SHAPES]
    name = next(name for name, one in DTYPES.items() if one == dtype)
    found = {"kernel": kernels(dtype) is not None, "threads": torch.get_num_threads(), "dtype": name}
    finish({**found, "shapes": shapes})


def measure(shape: tuple[int, ...], dtype: torch.dtype, rounds: int, seconds: float) -> dict:
    """Milliseconds of each contender, and the better peer's time over ours, round by round."""
    inputs, gradient = drawn(shape, dtype)
    print(f"batch, heads, seq, head_dim {shape}, seconds:")
    ways = {name: lambda _, way=way: time_of(way, inputs, gradient, seconds) for name, way in WAYS.items()}
    taken = alternate(ways, range(rounds + 1))
    ms = {name: 1e3 * value for name, value in medians(taken).items()}
    better = min((name for name in WAYS if name != "tinyslm"), key=ms.__getitem__)
    found = {"shape": list(shape), "ms": ms, "better_peer": better}
    return {**found, "ratio": ratio(taken[better], taken["tinyslm"])}


def time_of(way: Attend, inputs: list[Tensor], gradient: Tensor, seconds: float) -> float:
    """Mean seconds of one forward and backward pass."""
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        both_ways(way, inputs, gradient)
        count += 1
    return passed / count


def both_ways(way: Attend, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """The output and the three gradients."""
    y_bhtk = way(*(x.transpose(1, 2) for x in inputs))
    return [y_bhtk, *torch.autograd.grad(y_bhtk, inputs, gradient)]


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values as projections write them, and a gradient of the output."""
    b, h, t, k = shape
    return [torch.randn(b, t, h, k).to(dtype).requires_grad_() for _ in range(3)], torch.randn(b, h, t, k).to(dtype)


def ours(q_bhtk: Tensor, k_bhtk: Tensor, v_bhtk: Tensor) -> Tensor:
    return causal_attention(q_bhtk, k_bhtk, v_bhtk, q_bhtk.shape[-1] ** -0.5)


def fused(q_bhtk: Tensor, k_bhtk: Tensor, v_bhtk: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_bhtk, k_bhtk, v_bhtk, is_causal=True)


def written_out(q_bhtk: Tensor, k_bhtk: Tensor, v_bhtk: Tensor) -> Tensor:
    t, k = q_bhtk.shape[-2:]
    scores = (q_bhtk @ k_bhtk.transpose(-2, -1)) * k**-0.5
    return scores.masked_fill(causal_mask(t), float("-inf")).softmax(-1) @ v_bhtk


@cache
def causal_mask(length: int) -> Tensor:
    """True where a query must not see a key; cached, as peers cache it."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


WAYS: dict[str, Attend] = {"tinyslm": ours, "SDPA": fused, "written out": written_out}

if __name__ == "__main__":
    main()
