"""Quantized weights in files: the format "pack-quantized" of the package compressed-tensors.

A matrix `NAME.weight` is stored as `NAME.weight_packed`, its codes as unsigned numbers in words of 32 bits, the first
column in the lowest bits; `NAME.weight_scale`, `[o, n]`, or `[o, 1]` for one scale a row; and `NAME.weight_shape`.
`quantization_config` in `config.json` lists the layers of each layout. transformers and vLLM read it; names are those
of the family's Hugging Face folders. (https://github.com/vllm-project/compressed-tensors)

Shape legend: o rows of a matrix (outputs), i its columns (inputs), n groups of a row.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm.core.errors import TinyslmError
from tinyslm.model.packed import GROUPS, Layout, PackedTensor

METHOD = "compressed-tensors"
FORMAT = "pack-quantized"
_PACKED, _SCALE, _SHAPE = "_packed", "_scale", "_shape"
_ZERO_8 = 128  # the stored code of the value 0 in 8 bits


def is_quantized(hf: Mapping[str, Any], origin: str) -> bool:
    """Whether the weights that a `config.json` describes are quantized; `origin` is its path, for messages.

    Raises `TinyslmError` for a quantization that cannot be read here, naming it.
    """
    found = hf.get("quantization_config")
    if found is None:
        return False
    try:
        reason = _why_not(found)
    except (AttributeError, LookupError, TypeError):
        raise TinyslmError(f"quantization_config in {origin} is damaged.", "Restore the folder from a copy.") from None
    if reason:
        raise TinyslmError(
            f"The weights are quantized with {reason} (quantization_config in {origin}), which is not supported.",
            "Give the model folder that was not quantized, and quantize it with `tinyslm quantize`.",
        )
    return True


def quantization_config(layouts: Mapping[str, Layout]) -> dict[str, Any]:
    """The `quantization_config` of a folder with these packed matrices, by their names in the folder.

    The layers of all blocks with one layout share a regular expression; the layout of most matrices comes first.
    """
    by_layout: dict[Layout, list[str]] = {}
    for name, layout in layouts.items():
        by_layout.setdefault(layout, []).append(name.removesuffix(".weight"))
    largest_first = sorted(by_layout.items(), key=lambda item: -len(item[1]))
    groups = {
        f"group_{number}": {
            "targets": sorted({_target(name) for name in names}),
            "weights": {
                "num_bits": layout.bits,
                "type": "int",
                "symmetric": True,
                "strategy": "group" if layout.group_size else "channel",
                "group_size": layout.group_size or None,
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
            "format": FORMAT,
        }
        for number, (layout, names) in enumerate(largest_first)
    }
    return {"quant_method": METHOD, "format": FORMAT, "quantization_status": "compressed", "config_groups": groups}


def _target(name: str) -> str:
    """A regular expression for a layer and the same one in all other blocks."""
    blocks = re.sub("[.][0-9]+[.]", "[.][0-9]+[.]", name)
    return f"re:{blocks.replace('embed_out', '(embed_out|lm_head)')}$"  # transformers renames GPT-NeoX's


def to_stored(tensors: Mapping[str, Tensor | PackedTensor]) -> dict[str, Tensor]:
    """The tensors of a weight file, of matrices by their names in the folder."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, PackedTensor):
            stored[name] = tensor
            continue
        codes = tensor.codes
        if tensor.layout.bits == 8:
            codes = F.pad((codes.to(torch.int16) + _ZERO_8).to(torch.uint8), (0, -codes.shape[1] % 4))
        stored[name + _PACKED] = codes.contiguous().view(torch.int32)
        stored[name + _SCALE] = tensor.scale.view(len(codes), -1)
        stored[name + _SHAPE] = torch.tensor(tensor.shape)
    return stored


def from_stored(stored: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor | PackedTensor]:
    """The way back: packed matrices by their names, all other tensors as they are.

    Raises `TinyslmError` when the parts of a packed matrix are missing or do not fit each other.
    """
    tensors: dict[str, Tensor | PackedTensor] = dict(stored)
    for name in [name.removesuffix(_PACKED) for name in stored if name.endswith(_PACKED)]:
        codes, scale, shape = (stored.get(name + part) for part in (_PACKED, _SCALE, _SHAPE))
        matrix = None if codes is None or scale is None or shape is None else _matrix(codes, scale, shape)
        if matrix is None:
            raise TinyslmError(
                f"The packed weights in {folder} are damaged or of another kind: {name} is not a matrix of 8 bits with "
                "a scale for each row, nor one of 4 bits in groups of 32, 64 or 128.",
                "Restore the folder from a copy, or quantize the model again.",
            )
        for part in (_PACKED, _SCALE, _SHAPE):
            del tensors[name + part]
        tensors[name] = matrix
    return tensors


def _matrix(words: Tensor, scale: Tensor, shape: Tensor) -> PackedTensor | None:
    """A packed matrix of its stored parts; `None` when they do not fit each other."""
    if words.dtype != torch.int32 or words.ndim != 2 or scale.dtype != torch.bfloat16 or shape.numel() != 2:
        return None
    rows, columns = shape.tolist()
    groups = scale.shape[-1] if scale.shape[:-1] == (rows,) else 0
    if words.shape == (rows, -(-columns // 4)) and groups == 1:
        codes = words.view(torch.uint8)[:, :columns]
        return PackedTensor((codes ^ _ZERO_8).view(torch.int8), scale.view(-1))
    if groups and columns in [size * groups for size in GROUPS] and words.shape == (rows, columns // 8):
        return PackedTensor(words.view(torch.uint8), scale)
    return None


def _why_not(found: Mapping[str, Any]) -> str:
    """What about a `quantization_config` is not supported; "" when it can be read."""
    if found.get("quant_method") != METHOD:
        return f'"{found.get("quant_method")}"'
    if found.get("format") != FORMAT:
        return f'{METHOD} in its format "{found.get("format")}"'
    if found.get("kv_cache_scheme"):
        return f"{METHOD} and a quantized cache"
    for group in found["config_groups"].values():
        weights = group["weights"]
        if group.get("input_activations") or group.get("output_activations"):
            return f"{METHOD} and quantized activations"
        if weights["type"] != "int" or not weights.get("symmetric", True) or weights["num_bits"] not in (4, 8):
            return f"{METHOD} and codes other than symmetric integers of 4 or 8 bits"
    return ""
