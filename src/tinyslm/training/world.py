"""The processes of one training. Alone, nothing here does anything.

Each process computes its share of every batch; gradients and weights are summed over all of them, so that an update is
the same for any number of processes. Process 0 decides what depends on a clock or a signal, and alone writes files.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from tinyslm.core.errors import TinyslmError

Value = TypeVar("Value")

WORKING = timedelta(days=30)
"""How long processes wait for one that works alone; if it ends, they notice at once."""
BUCKET = 2**20
"""Values that are summed together, unless one tensor has more: faster than one tensor after the other (docs/LOG.md)."""


class LostProcess(TinyslmError):
    """Another process has ended or cannot be reached."""


def resuming(run: object) -> str:
    """The remedy where a process of the run in a folder was lost."""
    return f"Resume the run, with any number of processes: tinyslm train --resume {run}"


@dataclass(frozen=True)
class World:
    """This process's number, and how many there are. What others take part in raises `LostProcess` if one is lost."""

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
        with heard():
            dist.all_reduce(sums)
        return [float(value) for value in sums]

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in one of the processes."""
        return [count > 0 for count in self.total(map(float, flags))]

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over all processes, unless that was done while it was made (`sharding`)."""
        if self.size == 1:
            return
        gradients = (parameter.grad for parameter in model.parameters())
        for bucket in _buckets(one for one in gradients if one is not None and not isinstance(one, DTensor)):
            whole = bucket[0] if len(bucket) == 1 else torch.cat([gradient.flatten() for gradient in bucket])
            with heard():
                dist.all_reduce(whole)
            if len(bucket) > 1:
                parts = whole.split([one.numel() for one in bucket])
                torch._foreach_copy_(bucket, [part.view_as(one) for part, one in zip(parts, bucket, strict=True)])

    def decide(self, value: Value) -> Value:
        """What process 0 gives, in every process."""
        return self._broadcast(value, None)

    def lead(self, work: Callable[[], Value]) -> Value:
        """What `work` returns in process 0, which does it alone, in every process; the others wait."""
        if self.size == 1:
            return work()
        value: Value = work() if self.leads else None  # type: ignore[assignment]
        return self._broadcast(value, _patient(dist.group.WORLD))

    def wait(self) -> Any:
        """What `work` returns that process 0 leads, for a process that does not know what that is."""
        return self._broadcast(None, _patient(dist.group.WORLD))

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, in their order."""
        if self.size == 1:
            return [value]
        values = [value] * self.size
        with heard():
            dist.all_gather_object(values, value)
        return values

    def meet(self, work: Callable[[], Value]) -> Value:
        """What `work` returns in this process. Raises in every process the `TinyslmError` that it raises in any."""
        try:
            found, problem = work(), None
        except TinyslmError as error:
            if self.size == 1:
                raise
            found, problem = None, (platform.node(), error.problem, error.remedy)
        for rank, wrong in enumerate(self.gather(problem)):
            if wrong:
                host, what, remedy = wrong
                raise TinyslmError(f"Process {rank} on {host}: {what}" if rank else what, remedy)
        assert found is not None, "only work that fails returns nothing"
        return found

    def agree(self, facts: Mapping[str, str], remedy: str) -> None:
        """Raise `TinyslmError` in every process unless all of them have the same facts."""
        first, *others = self.gather((platform.node(), dict(facts)))
        for rank, (host, found) in enumerate(others, 1):
            differing = [
                f"{name}: {found.get(name)} instead of {value}"
                for name, value in first[1].items()
                if found.get(name) != value
            ]
            if differing:
                problem = f"Process {rank} on {host} differs from process 0 on {first[0]} in {'; '.join(differing)}."
                raise TinyslmError(problem, remedy)

    def copy_weights(self, model: nn.Module) -> None:
        """Give every process the weights of process 0."""
        self.copy([*model.parameters(), *model.buffers()])

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the values of process 0 in tensors of the same shapes."""
        if self.size > 1:
            for tensor in tensors:
                with heard():
                    dist.broadcast(tensor.data, src=0)

    def each(self, tensors: Mapping[str, Tensor] | None) -> Iterator[tuple[str, Tensor]]:
        """The tensors that process 0 has, by name, in every process, one after the other."""
        if self.size == 1:
            yield from (tensors or {}).items()
            return
        found = tensors or {}
        for name, shape, dtype in self.decide([(name, one.shape, one.dtype) for name, one in found.items()]):
            tensor = found[name].contiguous() if self.leads else torch.empty(shape, dtype=dtype)
            self.copy([tensor])
            yield name, tensor

    def seed(self, seed: int, step: int) -> None:
        """Begin an update with random generators that follow from its number and that of the process.

        So a resumed run draws what it would have drawn, without every process's generators in its checkpoints. A
        process that is alone keeps its generators.
        """
        if self.size > 1:
            torch.manual_seed(((seed << 24) + (step << 12) + self.rank + 1) % 2**63)

    def _broadcast(self, value: Value, group: dist.ProcessGroup | None) -> Value:
        if self.size == 1:
            return value
        values = [value]
        with heard():
            dist.broadcast_object_list(values, src=0, group=group, device=torch.device("cpu"))
        return values[0]


def leave() -> None:
    """End the connections to the other processes: they lose this one."""
    _patient.cache_clear()
    dist.destroy_process_group()


@cache
def _patient(_: dist.ProcessGroup) -> dist.ProcessGroup:
    """The same processes as a group that waits as long as another one works."""
    group: dist.ProcessGroup = dist.new_group(timeout=WORKING, backend="gloo")
    return group


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, together as long as they have no more values than a bucket."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


_LOST = ("onnect", "peer", "imed out", "imeout", "roken pipe", "NCCL")


@contextmanager
def heard() -> Iterator[None]:
    """Turn the errors of PyTorch's backends about a process that is not there into `LostProcess`."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(sign in str(error) for sign in _LOST):
            raise
        late = any(sign in str(error) for sign in ("imed out", "imeout"))
        raise LostProcess(
            f"Another process of this training {'does not answer' if late else 'has ended'}.",
            "See why; then run the same command again, or resume the run, with any number of processes.",
        ) from error
