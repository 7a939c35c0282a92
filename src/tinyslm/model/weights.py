"""Weight files: safetensors, in one file or in shards with an index. Nothing is ever unpickled."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import checksum_file
from tinyslm.core.json_files import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
REMEDY = "Restore the file from a copy, or export or train the model again."
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SHARD = re.compile(r"[\w.-]+\.safetensors")


@dataclass(frozen=True)
class _Index:
    """The index of sharded weights. weight_map: the file of each tensor."""

    weight_map: dict[str, str]


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights that can be read."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a model folder; `TinyslmError` where there are none, or only pickled ones."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _shards(folder)
    pickled = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickled:
        raise TinyslmError(
            f"{folder} has its weights as {pickled[0]}, a pickle: a file that can run any program when it is opened, "
            "so it is never read here.",
            "Take the safetensors version of the model; or, if you trust it, convert it with transformers: "
            f"AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained('converted').",
        )
    raise TinyslmError(f"There is no {WEIGHTS} in {folder}.", "Give a complete model folder.")


def read_tensors(
    folder: Path, recorded: Mapping[str, str], dtype: torch.dtype | None = None, *, mapped: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a model folder by name, floating-point ones as `dtype`.

    Tensors that have the type already are views of the file, which is mapped into memory, if they may be `mapped`; of
    the others one at a time is read and converted. Files with a recorded checksum are checked first, all others for
    values that are not finite.
    """
    seen: dict[str, str] = {}
    for path in weight_files(folder):
        if path.name in recorded and checksum_file(path) != recorded[path.name]:
            raise TinyslmError(f"{path} is damaged: its checksum is not the one recorded for it.", REMEDY)
        for name, tensor in _tensors(path, dtype, mapped=mapped):
            if path.name not in recorded and not _is_finite(tensor):  # a checksum says that they are as written
                raise TinyslmError(f"{path} is damaged: {name} has values that are not finite numbers.", REMEDY)
            if name in seen:
                raise TinyslmError(f"{path} and {seen[name]} both hold {name}.", REMEDY)
            seen[name] = path.name
            yield name, tensor


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite, found without a copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(end.isfinite()) for end in tensor.aminmax())


def named_tensors(folder: Path, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a model folder that have one of these names, as they are stored; no others are read."""
    for path in weight_files(folder):
        yield from _tensors(path, None, names)


def weights_hash(folder: Path) -> str:
    """Hash (XXH3, 128 bits) of all tensors of a model folder: names, types, shapes, values; not how files hold them."""
    import xxhash

    tensors = []
    for path in weight_files(folder):
        for name, tensor in _tensors(path, None, mapped=False):
            values = xxhash.xxh3_128(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            tensors.append(f"{name} {tensor.dtype} {list(tensor.shape)} {values.hexdigest()}")
    return xxhash.xxh3_128("\n".join(sorted(tensors)).encode()).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; when the disk is full, `OSError` as for any other file."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
    path.chmod(0o666 & ~_umask())  # the library lets only the owner read it


def _umask() -> int:
    """Which rights new files do not get; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _tensors(
    path: Path, dtype: torch.dtype | None, names: Collection[str] | None = None, *, mapped: bool = True
) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                if names is not None and name not in names:
                    continue
                tensor = file.get_tensor(name)
                wanted = tensor.dtype if dtype is None or not tensor.is_floating_point() else dtype
                if not mapped or tensor.dtype != wanted:
                    tensor = _copied(path, name, wanted)
                yield name, tensor
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise TinyslmError(f"{path} is damaged: {error}.", REMEDY) from None


def _copied(path: Path, name: str, dtype: torch.dtype) -> Tensor:
    """A copy of a tensor as `dtype`, through a map of the file that is closed again: its pages do not pile up."""
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name).to(dtype, copy=True)
        return tensor


def _shards(folder: Path) -> list[Path]:
    """The files that the index names, all of them inside the folder."""
    files = sorted(set(read_json(folder / INDEX, _Index, remedy=REMEDY).weight_map.values()))
    if not files:
        raise TinyslmError(f"{folder / INDEX} has an empty weight_map.", REMEDY)
    for name in files:
        if not _SHARD.fullmatch(name) or not (folder / name).is_file():
            raise TinyslmError(f"{folder / INDEX} names {name!r}, which is no weight file in {folder}.", REMEDY)
    return [folder / name for name in files]
