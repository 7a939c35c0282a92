"""Weights, gradients and optimizer state divided over the processes, for models that do not fit whole into each.

PyTorch's FSDP2 divides the rows of every weight of the blocks, and puts a block's weights together while it computes;
tables and the last norm stay whole. Optimizers see the rows of their process only, so what they compute element by
element needs no change.

Shape legend: n matrices of one shape, r rows of a whole matrix, p rows of this process, c columns.
"""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from tinyslm.core.errors import TinyslmError
from tinyslm.core.quantities import size
from tinyslm.hardware.device import pick_device
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import state_tensors
from tinyslm.training.config import RunConfig
from tinyslm.training.finetuning_memory import free_bytes
from tinyslm.training.memory import peak_bytes
from tinyslm.training.world import World, heard

STAGES = ("pretrain", "distill_text", "sft")
"""Stages whose batches do not come from the model itself."""


@dataclass(frozen=True)
class Sharding:
    """Whether weights are divided over the processes, and why."""

    on: bool
    reason: str


def choose_sharding(config: RunConfig, world: World) -> Sharding:
    """What the settings say, or whether a whole training would not fit into the memory that each process has.

    Raises `TinyslmError` for settings that cannot be divided.
    """
    train, why_not = config.train, _why_not(config)
    if world.size == 1 or train.shard == "none":
        return Sharding(False, "there is one process" if world.size == 1 else "the settings say so")
    if train.shard == "full":
        if why_not:
            raise TinyslmError(f"train.shard is full, but {why_not}.", "Leave it to tinyslm: --train.shard auto")
        return Sharding(True, "the settings say so")
    mine = world.share(train.batch)
    rows = min(train.micro_batch or train.batch, mine.stop - mine.start)
    alone = config.model_copy(update={"train": train.model_copy(update={"batch": rows, "micro_batch": 0})})
    hosts, gpu = world.gather(platform.node()), pick_device(train.device).type == "cuda"
    needed, free = peak_bytes(alone), free_bytes(config) // (1 if gpu else hosts.count(platform.node()))
    small = world.any(needed > free)[0]
    words = f"a whole training needs about {size(needed)} in each process, and {size(free)} are free"
    return Sharding(small and not why_not, words + (f"; but {why_not}" if small and why_not else ""))


def _why_not(config: RunConfig) -> str:
    """Why weights with these settings cannot be divided, or ""."""
    if config.train.stage not in STAGES:
        return f"the stage {config.train.stage} samples from whole weights"
    if config.lora.rank:
        return "adapters are trained on whole weights"
    return "compiled updates need whole weights" if config.train.compile == "on" else ""


def shard(model: Decoder, world: World) -> None:
    """Divide the weights of the blocks, which are equal in all processes, over these."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(model.device.type, (world.size,))
    for layer in model.model.layers:
        block: Any = fully_shard(layer, mesh=mesh)
        block.set_gradient_divide_factor(1.0)  # gradients are summed; the loop divides them by the weight of the batch
        block.set_force_sum_reduction_for_comms(True)


def is_sharded(model: nn.Module) -> bool:
    """Whether some of a model's weights are divided."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def own_rows(tensor: Tensor) -> Tensor:
    """The rows of a divided tensor that this process has, in the same memory; another tensor as it is."""
    if isinstance(tensor, DTensor):
        rows: Tensor = tensor.to_local().detach()
        return rows
    return tensor


def rows_of(whole: Tensor, world: World) -> Tensor:
    """The rows of a whole tensor that are this process's when it is divided."""
    each = -(-len(whole) // world.size)
    return whole[world.rank * each : (world.rank + 1) * each]


def put(target: Tensor, whole: Tensor, world: World) -> None:
    """Write a whole tensor into one that may be divided."""
    divided = isinstance(target, DTensor)
    own_rows(target.data).copy_(rows_of(whole, world) if divided else whole)


def whole_rows(parts: Tensor, rows: int, world: World) -> Tensor:
    """Tensors `[n, r, ...]`, of which each process has the rows `[n, p, ...]`."""
    each = -(-rows // world.size)
    padded = parts.new_zeros(parts.shape[0], each, *parts.shape[2:])
    padded[:, : parts.shape[1]] = parts
    every = [torch.empty_like(padded) for _ in range(world.size)]
    with heard():
        dist.all_gather(every, padded)
    return torch.cat(every, 1)[:, :rows]


def in_turns(parts_npc: Tensor, rows: int, world: World, work: Callable[[Tensor], Tensor]) -> Tensor:
    """This process's rows of `work(matrices)`, where each process has some rows of every matrix.

    The matrices are put together, and each process takes the work of its share of them.
    """
    count = len(parts_npc)
    wholes_nrc = whole_rows(parts_npc, rows, world)
    mine = world.share(count)
    done = work(wholes_nrc[mine]) if mine.start < mine.stop else wholes_nrc[mine]
    longest = -(-count // world.size)
    padded = wholes_nrc.new_zeros(longest, *wholes_nrc.shape[1:])
    padded[: len(done)] = done
    every = [torch.empty_like(padded) for _ in range(world.size)]
    with heard():
        dist.all_gather(every, padded)
    shares = [World(rank, world.size).share(count) for rank in range(world.size)]
    changes = torch.cat([part[: one.stop - one.start] for part, one in zip(every, shares, strict=True)])
    return rows_of(changes.transpose(0, 1), world).transpose(0, 1)


def whole_model(model: Decoder, world: World) -> Decoder:
    """The model with all its weights in process 0, elsewhere without; the model itself if it is not divided.

    Every process has to take part.
    """
    if not is_sharded(model):
        return model
    whole = Decoder(model.config).to(model.device) if world.leads else None
    targets: Mapping[str, Tensor] = whole.state_dict() if whole else {}
    for name, tensor in state_tensors(model).items():
        found = whole_rows(own_rows(tensor)[None], len(tensor), world)[0] if isinstance(tensor, DTensor) else tensor
        if whole:
            targets[name].copy_(found)
    return whole or model


def total_norm(gradients: list[Tensor], world: World) -> float:
    """The norm of all gradients together, those that are divided included."""
    divided = [own_rows(one) for one in gradients if isinstance(one, DTensor)]
    norm = torch.nn.utils.get_total_norm
    if not divided:
        return norm(gradients).item()
    plain = [one for one in gradients if not isinstance(one, DTensor)]
    (square,) = world.total([norm(divided).item() ** 2])
    return float((square + norm(plain).item() ** 2) ** 0.5)
