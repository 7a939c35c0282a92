"""How fast this machine multiplies matrices and moves memory: the two figures that training time follows from."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

ROWS, INNER, COLUMNS = 4096, 384, 1536  # a batch of 16 x 256 tokens in the feed-forward of a model of 10 M parameters
COPIED_BYTES = 64 << 20  # far more than processor caches hold


@dataclass(frozen=True)
class Speed:
    """Measured rates of one device, with the number of threads that torch uses now."""

    device: str
    gflops_fp32: float  # 10^9 floating-point operations a second in matrix products; an addition counts as one
    gflops_bf16: float
    gigabytes_per_second: float  # read plus written, while copying


def measure_speed(device: torch.device | None = None, *, seconds: float = 2.0) -> Speed:
    """Measure a device (default: the CPU) for about `seconds`; the best of several tries counts, as others disturb."""
    device = device or torch.device("cpu")
    share = seconds / 3
    return Speed(
        device=str(device),
        gflops_fp32=_product_rate(device, torch.float32, share),
        gflops_bf16=_product_rate(device, torch.bfloat16, share),
        gigabytes_per_second=_copy_rate(device, share),
    )


def _product_rate(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Best rate of products [rows, INNER] x [INNER, COLUMNS] in 10^9 operations a second, for `rows` up to ROWS.

    It begins with few rows and takes four times as many while these would be done in time: a format that a processor
    only imitates can be hundreds of times slower.
    """
    a = torch.randn(ROWS, INNER, device=device, dtype=dtype)
    b = torch.randn(INNER, COLUMNS, device=device, dtype=dtype)
    out = torch.empty(ROWS, COLUMNS, device=device, dtype=dtype)
    best_rate, time_taken, rows = 0.0, 0.0, ROWS // 64
    while rows <= ROWS and 4 * 4 * time_taken < seconds:
        time_taken = _best_time(partial(torch.mm, a[:rows], b, out=out[:rows]), device, seconds / 4)
        best_rate = max(best_rate, 2 * rows * INNER * COLUMNS / time_taken / 1e9)
        rows *= 4
    return best_rate


def _copy_rate(device: torch.device, seconds: float) -> float:
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * COPIED_BYTES / _best_time(lambda: target.copy_(source), device, seconds) / 1e9


def _best_time(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest time in seconds that `work` took, of at least three tries and as many as fit."""
    work()
    best, tries = float("inf"), 0
    end = time.perf_counter() + seconds
    while tries < 3 or time.perf_counter() < end:
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        best = min(best, time.perf_counter() - start)
        tries += 1
    return best


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was asked to do; a GPU works while Python goes on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
