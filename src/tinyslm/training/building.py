"""What a run consists of, built alike in all of its processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tinyslm.core.files import MANIFEST, sha256_file
from tinyslm.core.plugins import loaded_files
from tinyslm.data.shard_cache import data_folder
from tinyslm.hardware.allocator import keep_freed_memory, return_freed_memory
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.hardware.limits import usable_cores
from tinyslm.model.decoder import Decoder
from tinyslm.training.config import RunConfig
from tinyslm.training.deadline import Decisions, Rates
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.sharding import Sharding, choose_sharding, shard
from tinyslm.training.stage import Stage
from tinyslm.training.stages import first_model, open_stage
from tinyslm.training.world import World


@dataclass(frozen=True)
class Order:
    """A run that process 0 starts or resumes, for all that take part in it.

    data: the folder that the stage learns from, or the address of shards in object storage. rates: of this machine,
    from a plan. decisions: of a resumed run with a given time. plugins: files that process 0 has loaded, with their
    hashes.
    """

    folder: Path
    data: str | Path
    config: RunConfig
    resumed: bool = False
    rates: Rates | None = None
    decisions: Decisions | None = None
    plugins: Mapping[str, str] = field(default_factory=loaded_files)


@dataclass(frozen=True)
class Parts:
    """The parts of a run, and its settings with the shape of the model."""

    config: RunConfig
    stage: Stage
    model: Decoder
    optimizers: Optimizers
    device: torch.device
    dtype: torch.dtype
    sharding: Sharding


def build(order: Order, world: World) -> Parts:
    """Build the parts; their weights are those of process 0.

    Raises `TinyslmError` in all processes for what is wrong in one of them, or differs between them.
    """
    return_freed_memory()  # what planning and preparing left
    keep_freed_memory()
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))  # a container's quota counts too
    plugins = {f"the plugin {file}": sha256 for file, sha256 in world.meet(lambda: loaded_files(order.plugins)).items()}
    world.agree(plugins, "Every host needs the same plugins at the same path.")
    config, stage, model, device, dtype = world.meet(lambda: _built(order, world))
    if world.size > 1:
        data = sha256_file(data_folder(order.data) / MANIFEST)
        world.agree(
            {"the hash of the data": data, "device": device.type, "number format": str(dtype)},
            "Every host needs the same data at the same path; --train.device and --train.dtype hold for all.",
        )
        world.copy_weights(model)
    sharding = choose_sharding(config, world)
    if sharding.on:
        shard(model, world)
    recompute = config.train.checkpoint_activations
    optimizers = Optimizers(model, config.optimizer, keep_gradients=recompute, world=world)
    return Parts(config, stage, model, optimizers, device, dtype, sharding)


def _built(order: Order, world: World) -> tuple[RunConfig, Stage, Decoder, torch.device, torch.dtype]:
    train = order.config.train
    device = pick_device(train.device)
    dtype = pick_dtype(device, train.dtype)
    stage, config = open_stage(data_folder(order.data), order.config, world)
    torch.manual_seed(train.seed)
    model = first_model(config, device)
    model.model.recompute = train.checkpoint_activations
    return config, stage, model, device, dtype
