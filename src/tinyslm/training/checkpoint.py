"""Checkpoints: everything a run needs to resume as if it had never stopped, whole or absent.

`RUN/checkpoints/step-000100/` holds `model.safetensors`, `state.safetensors` (optimizers and random generators),
`state.json` (step, place in the data, best validation, corrections of the schedule) and `manifest.json` with the
checksum of each. Parameters that are not trained are left out: they come from where the run started.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, read_manifest, write_json, write_manifest
from tinyslm.core.json_files import read_json
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import state_tensors
from tinyslm.model.weights import write_tensors
from tinyslm.training.deadline import Correction, RunCosts
from tinyslm.training.optimizers import Optimizers, trainable
from tinyslm.training.sharding import put, whole_model
from tinyslm.training.world import World


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    step, tokens: updates made, tokens read. seconds: the time the run has taken, preparing the text and setting up
    included, interruptions left out. batches: their place in the data. best_loss, best_step: of the best validation.
    costs, corrections: what a run with a given time has seen of the machine, and decided about its number of updates.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    batches: Mapping[str, Any] = field(default_factory=dict)
    best_loss: float | None = None
    best_step: int = 0
    costs: RunCosts | None = None
    corrections: tuple[Correction, ...] = ()


def save_checkpoint(
    folder: Path, model: Decoder, optimizers: Optimizers, progress: Progress, world: World | None = None
) -> None:
    """Write a checkpoint folder, whole or not at all; of several processes, the first one does."""
    world = world or World()
    model, state = whole_model(model, world), optimizers.state()
    if not world.leads:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / "model.safetensors", _trained(model))
        write_tensors(temporary / "state.safetensors", {**state, **_generators()})
        write_json(temporary / "state.json", asdict(progress))
        write_manifest(temporary, {"format": 1})


def load_checkpoint(
    folder: Path | None, model: Decoder, optimizers: Optimizers, world: World | None = None
) -> Progress | None:
    """Put a checkpoint's weights, optimizer state and random generators in place; returns where the run stood.

    Of several processes, the first one reads it, and says if there is none.
    """
    world = world or World()
    progress = world.decide(read_progress(folder) if folder else None)
    if progress is None:
        return None
    targets = model.state_dict()
    for name, tensor in world.each(_weights(folder, model) if folder else None):
        put(targets[name], tensor, world)
    state = load_file(folder / "state.safetensors") if folder else {}
    generators = {name: state.pop(name) for name in list(state) if name.startswith("random:")}
    optimizers.restore(state)
    if generators:
        torch.set_rng_state(generators["random:cpu"])
    if "random:cuda" in generators and torch.cuda.is_available():
        torch.cuda.set_rng_state(generators["random:cuda"])
    if "random:mps" in generators and torch.backends.mps.is_available():
        torch.mps.set_rng_state(generators["random:mps"])
    return progress


def read_progress(folder: Path) -> Progress:
    """Where the run stood at a checkpoint."""
    return read_json(folder / "state.json", Progress, remedy=f"Remove {folder}: the run resumes from an earlier one.")


def save_weights(folder: Path, model: Decoder) -> None:
    """Write a folder with only the weights of a checkpoint."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / "model.safetensors", _trained(model))
        write_manifest(temporary, {"format": 1})


def load_weights(folder: Path, model: Decoder) -> None:
    """Put a checkpoint's weights into `model`, on its device."""
    model.load_state_dict(_weights(folder, model), strict=False)


def _weights(folder: Path, model: Decoder) -> dict[str, Tensor]:
    """A checkpoint's weights for a model."""
    tensors: dict[str, Tensor] = load_file(folder / "model.safetensors")
    assert set(tensors) == set(_trained(model)), "the checkpoint of another model"
    return tensors


def _trained(model: Decoder) -> dict[str, Tensor]:
    """The tensors of a model that training changes."""
    frozen = {name for name, _ in model.named_parameters()} - set(trainable(model))
    frozen |= {name for name, _ in model.named_buffers()}  # packed weights
    return {name: tensor for name, tensor in state_tensors(model).items() if name not in frozen}


def newest_intact(checkpoints: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files have the recorded checksums; damaged ones are warned of and passed over."""
    for folder in reversed(list_checkpoints(checkpoints)):
        try:
            read_manifest(folder)
        except TinyslmError as error:
            warn(f"Checkpoint {folder.name} is damaged and not used: {error.problem}")
        else:
            return folder
    return None


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """The numbered checkpoints, oldest first."""
    folders = (folder for folder in checkpoints.glob("step-*") if folder.name.removeprefix("step-").isdecimal())
    return sorted(folders, key=_step_of)


def checkpoint_name(step: int) -> str:
    """`step-000100`."""
    return f"step-{step:06d}"


def best_name(step: int) -> str:
    """`best-000100`."""
    return f"best-{step:06d}"


def rotate(newest: Path, keep: int) -> None:
    """Remove all numbered checkpoints but `newest` and those before it, `keep` in all, and the best weights of others.

    Later ones are left from before the run was resumed: it was not from them, so they are damaged.
    """
    folders = list_checkpoints(newest.parent)
    end = folders.index(newest) + 1
    for folder in folders[: max(0, end - keep)] + folders[end:]:
        shutil.rmtree(folder)
    drop_former_best(newest.parent)


def drop_former_best(checkpoints: Path, best_step: int = 0) -> None:
    """Remove all best weights but those after `best_step`, and those that a checkpoint had as its best.

    A run that is killed goes on from a checkpoint, and what was best by then must still be there.
    """
    needed = {best_name(step) for step in (best_step, *map(_best_step, list_checkpoints(checkpoints)))}
    for folder in checkpoints.glob("best-*"):
        if folder.name not in needed:
            shutil.rmtree(folder)


def _best_step(checkpoint: Path) -> int:
    """After which step the weights did best until a checkpoint; 0 where it does not say, or nothing was validated."""
    try:
        return read_progress(checkpoint).best_step
    except TinyslmError:
        return 0


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _generators() -> dict[str, Tensor]:
    """The states of torch's global random generators."""
    states = {"random:cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random:cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["random:mps"] = torch.mps.get_rng_state()
    return states
