"""The compiled kernels, where this machine can have them."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tinyslm.hardware.compiling import NotAvailable, build
from tinyslm.hardware.machine import read_processor

SOURCE = Path(__file__).parent / "kernels.cpp"
NEEDED = ("avx512f", "avx512_bf16")


class Threads(ctypes.Structure):
    """`Threads` of parallel.h."""

    _fields_ = (("fork", ctypes.c_void_p), ("count", ctypes.c_int64))


@cache
def kernels() -> ctypes.CDLL | None:
    """The library; `None` where the processor or the system has not what it takes. Compiled when first asked for."""
    if not set(NEEDED) <= set(read_processor()[1]):
        return None
    try:
        return ctypes.CDLL(str(build(SOURCE)))
    except (NotAvailable, OSError):
        return None


def at_hand(*tensors: Tensor) -> bool:
    """Whether kernels can be used here and now: on a CPU that has them, outside of what torch.compile compiles."""
    return all(x.device.type == "cpu" for x in tensors) and not torch.compiler.is_compiling() and kernels() is not None


def call(name: str, *arguments: Tensor | ctypes.Structure | int | float | None) -> None:
    """Call a kernel, with as many threads as PyTorch uses now."""
    threads = Threads(_fork(), torch.get_num_threads())
    getattr(kernels(), name)(*(_passed(one) for one in arguments), ctypes.byref(threads))


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
