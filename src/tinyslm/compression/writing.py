"""Writing a packed model folder beside the files that it takes over from the original."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.model.folder import CARD, read_card, write_card
from tinyslm.model.packed import PackedTensor, Packing
from tinyslm.model.weights import WEIGHTS, write_tensors

REPORT = "quantization.json"
_TAKEN_OVER = (".json", ".jinja", ".model", ".txt", ".md")
_OWN = ("config.json", CARD, REPORT, "model.safetensors.index.json")
_LARGEST = 1 << 26


@dataclass(frozen=True)
class State:
    """All weights of a quantized model by name: packed matrices, and the other tensors."""

    packed: Mapping[str, PackedTensor]
    others: Mapping[str, Tensor]


def write_packed(source: Path, folder: Path, scheme: str, state: State) -> None:
    """Fill `folder` with the model of `source` in these weights. Tokenizer, template, licence and such are copied."""
    write_tensors(folder / WEIGHTS, stored(state))
    packing = Packing(scheme=scheme, tensors={name: matrix.layout for name, matrix in state.packed.items()})
    config = {**read_json(source / "config.json"), "quantization_config": packing.model_dump(mode="json")}
    write_json(folder / "config.json", config)
    for file in sorted(source.iterdir()):
        if _is_taken_over(file):
            shutil.copyfile(file, folder / file.name)
    write_card(folder, read_card(source).get("training", {}))


def stored(state: State) -> dict[str, Tensor]:
    """The tensors of a folder; values that bf16 holds exactly are stored so."""
    tensors = {name: compact(tensor) for name, tensor in state.others.items()}
    for name, matrix in state.packed.items():
        tensors |= matrix.stored(name)
    return tensors


def stored_bytes(state: State) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in stored(state).values())


def compact(tensor: Tensor) -> Tensor:
    """The same values in half the bytes, where bf16 holds them exactly."""
    half = tensor.bfloat16()
    return half if half.float().equal(tensor.float()) else tensor.contiguous()


def _is_taken_over(file: Path) -> bool:
    name = file.name
    kept = name.startswith("LICENSE") or (file.suffix in _TAKEN_OVER and name not in _OWN)
    return kept and file.is_file() and file.stat().st_size <= _LARGEST
