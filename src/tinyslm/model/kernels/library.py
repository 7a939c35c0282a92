"""The compiled kernels, where this machine can have them."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tinyslm.hardware.compiling import NATIVE, NotAvailable, build
from tinyslm.hardware.machine import read_processor

SOURCE = Path(__file__).parent / "kernels.cpp"
NEEDED = {torch.bfloat16: ("avx512f", "avx512_bf16"), torch.float32: ("avx2",)}
"""What a processor must have for the kernels to be fast, by the type of the numbers that they multiply."""


class Threads(ctypes.Structure):
    """`Threads` of parallel.h."""

    _fields_ = (("fork", ctypes.c_void_p), ("count", ctypes.c_int64))


@cache
def kernels(numbers: torch.dtype) -> ctypes.CDLL | None:
    """The library for products of these numbers, compiled when first asked for.

    `None` where the processor or the system has not what it takes.
    """
    if numbers not in NEEDED or not set(NEEDED[numbers]) <= set(read_processor()[1]) or _fork() is None:
        return None
    try:
        return load(numbers)
    except (NotAvailable, OSError):
        return None


def load(numbers: torch.dtype, processor: Sequence[str] = NATIVE) -> ctypes.CDLL:
    """The library, compiled for a processor (the compiler's options for it) whether it is fast there or not.

    Raises `NotAvailable` where it cannot be compiled.
    """
    variant = f"({8 * numbers.itemsize} bits)"
    return ctypes.CDLL(str(build(SOURCE, (*processor, *options(numbers)), variant=variant)))


def options(numbers: torch.dtype) -> tuple[str, ...]:
    """The compiler's options for products of these numbers."""
    return (f"-DNUMBER_BITS={8 * numbers.itemsize}",)


def at_hand(numbers: torch.dtype, *tensors: Tensor) -> bool:
    """Whether kernels for these numbers can be used here and now: on a CPU that has them, outside of what torch.compile
    compiles."""
    here = all(x.device.type == "cpu" for x in tensors) and not torch.compiler.is_compiling()
    return here and kernels(numbers) is not None


def call(name: str, numbers: torch.dtype, *arguments: Tensor | ctypes.Structure | int | float | None) -> None:
    """Call a kernel, with as many threads as PyTorch uses now."""
    threads = Threads(_fork(), torch.get_num_threads())
    getattr(kernels(numbers), name)(*(_passed(one) for one in arguments), ctypes.byref(threads))


def _passed(argument: Tensor | ctypes.Structure | int | float | None) -> object:
    """An argument as C takes it: tensors by where their memory begins."""
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return None if argument is None else ctypes.c_int64(argument)


@cache
def _fork() -> int | None:
    """The address of the `GOMP_parallel` that PyTorch has loaded; `None` where it has another OpenMP."""
    try:
        found = ctypes.CDLL(None).GOMP_parallel
    except AttributeError:
        return None
    return ctypes.cast(found, ctypes.c_void_p).value
