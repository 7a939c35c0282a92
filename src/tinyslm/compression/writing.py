"""Writing a quantized model folder, with the files of the original that still apply."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.model.compressed_tensors import quantization_config, to_stored
from tinyslm.model.config import ModelConfig
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import CARD, read_card, to_outside, write_card
from tinyslm.model.packed import PackedTensor
from tinyslm.model.weights import WEIGHTS, write_tensors

REPORT = "quantization.json"
TABLES = ("model.embed_tokens.weight", "model.embed_positions.weight")
"""Stored in bf16: transformers reads no packed tables."""
_COPIED = (".json", ".jinja", ".model", ".txt", ".md")
_REWRITTEN = ("config.json", CARD, REPORT, "model.safetensors.index.json")
_LARGEST = 1 << 26


@dataclass(frozen=True)
class State:
    """All weights of a quantized model by name: packed matrices, and the other tensors."""

    packed: Mapping[str, PackedTensor]
    others: Mapping[str, Tensor]


def write_quantized(source: Path, folder: Path, config: ModelConfig, state: State) -> None:
    """Write the folder of a model of this shape with these weights; the other files are copied from `source`."""
    family = FAMILIES[config.family]
    packed = to_outside(family, config, state.packed)
    others = to_outside(family, config, _others(state))
    write_tensors(folder / WEIGHTS, to_stored({**others, **packed}))
    fields = {
        "tie_word_embeddings": config.tied,
        "quantization_config": quantization_config({name: matrix.layout for name, matrix in packed.items()}),
    }
    write_json(folder / "config.json", {**read_json(source / "config.json"), **fields})
    for file in sorted(source.iterdir()):
        if _is_copied(file):
            shutil.copyfile(file, folder / file.name)
    write_card(folder, read_card(source).get("training", {}))


def stored_bytes(state: State) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in to_stored({**state.packed, **_others(state)}).values())


def _others(state: State) -> dict[str, Tensor]:
    """The tensors that are not packed: in bf16 where that holds their values, and tables always."""
    stored = {}
    for name, tensor in state.others.items():
        half = tensor.bfloat16()
        stored[name] = half if name in TABLES or half.float().equal(tensor.float()) else tensor.contiguous()
    return stored


def _is_copied(file: Path) -> bool:
    name = file.name
    wanted = name.startswith("LICENSE") or (file.suffix in _COPIED and name not in _REWRITTEN)
    return wanted and file.is_file() and file.stat().st_size <= _LARGEST
