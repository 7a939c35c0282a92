"""Memory for weights and for keys and values: in large pages where the system has them, which is faster to read."""

import mmap
from math import prod

import torch
from torch import Tensor

CHUNK = 64 << 20
ALIGNMENT = 64


class Memory:
    """Gives out tensors of zeros, one after another; all of it is freed with the last of them."""

    def __init__(self) -> None:
        self._chunk: Tensor | None = None
        self._used = 0

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of zeros at an address that is a multiple of 64."""
        size = prod(shape) * dtype.itemsize
        if self._chunk is None or self._used + size > len(self._chunk):
            self._chunk, self._used = pages(max(size, CHUNK)), 0
        part = self._chunk[self._used : self._used + size]
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return part.view(dtype).view(shape)

    def copy(self, tensor: Tensor) -> Tensor:
        """The tensor's values in this memory, row by row."""
        return self.empty(tuple(tensor.shape), tensor.dtype).copy_(tensor)


def pages(size: int) -> Tensor:
    """`size` bytes of zeros that take no memory until they are written to."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)
