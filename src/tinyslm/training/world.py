"""The processes of one training. Alone, nothing here does anything.

Each process computes its share of every batch; gradients and weights are summed over all of them, so that an update is
the same for any number of processes. Process 0 decides what depends on a clock or a signal, and alone writes files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """This process's number, and how many there are."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "World":
        """The processes of `torch.distributed`, if it was initialised; else this one alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def leads(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of `count` items are this process's; shares differ by one at most."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def total(self, values: Iterable[float]) -> list[float]:
        """The sum of each value over all processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(list(values), dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over all processes."""
        if self.size > 1:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)

    def decide(self, value: Value) -> Value:
        """What process 0 gives, in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def copy_weights(self, model: nn.Module) -> None:
        """Give every process the weights of process 0."""
        if self.size > 1:
            tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
            for tensor in tensors:
                dist.broadcast(tensor.data, src=0)
