"""A model as a GGUF file: metadata, tokenizer and tensors, one tensor at a time.

The file appears under its name when it is complete. Notes list the tensors that do not have the scheme's format.
"""

import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import disk_error, sync_folder
from tinyslm.export.format import Options, Original, Written
from tinyslm.export.gguf.architecture import Architecture
from tinyslm.export.gguf.architectures import ARCHITECTURES
from tinyslm.export.gguf.modelfile import write_modelfile
from tinyslm.export.gguf.quantize import LARGEST_HALF, SCHEMES, block_of, bytes_of, encoded, fitting_type, wanted_type
from tinyslm.export.gguf.vocabulary_keys import differences, tokenizer_keys
from tinyslm.inspection.importance import Importance, importance_matrix
from tinyslm.model.config import ModelConfig
from tinyslm.model.folder import state_tensors

WEIGHED = ("q4_0", "q4_k_m", "q5_k_m", "q6_k")
"""Schemes whose encoding takes an importance matrix into account."""


@dataclass(frozen=True)
class Placed:
    """One tensor of the file, and why its format is not the one that the scheme wants ("" if it is)."""

    name: str
    shape: tuple[int, ...]
    wanted: str
    kind: str
    why: str = ""


def write(original: Original, scheme: str, path: Path, options: Options) -> Written:
    """Write the file, and next to it a Modelfile for Ollama.

    Raises `TinyslmError` where llama.cpp cannot run such a model or has no such tokenizer.
    """
    config, tensors = original.model.config, state_tensors(original.model)
    architecture = ARCHITECTURES[config.family]
    if reason := architecture.why_not(config, tensors):
        raise TinyslmError(f"This model cannot be a GGUF file: {reason}", "Export to another format.")
    keys = {
        **architecture.metadata(config),
        **_general(original.folder, scheme),
        **tokenizer_keys(original.tokenizer, config.vocab_size),
    }
    weighed = scheme in WEIGHED
    plan = _plan(architecture, config, tensors, scheme, calibrated=weighed and any(options.calibration))
    importance = importance_matrix(original.model, original.tokenizer, options.calibration) if weighed else {}
    values = architecture.tensors_to_gguf(config, tensors)
    weights = _by_gguf_name(architecture, config, tensors, importance)
    _write_file(path, keys, plan, (tensor for _, tensor in values), weights, options.threads)
    notes = [*_type_notes(plan), *_context_notes(architecture, config), *differences(original.tokenizer)]
    return Written(path, [*notes, *write_modelfile(path, original.tokenizer, architecture.context(config))])


def _general(folder: Path, scheme: str) -> dict[str, Any]:
    # llama.cpp looks for Phi-3's own tokens in any model whose name has this in it, and fails without them.
    name = re.sub("phi-?3", "Phi 3", folder.resolve().name, flags=re.IGNORECASE)
    general = {"type": "model", "name": name, "file_type": SCHEMES[scheme][1], "quantization_version": 2}
    return {f"general.{key}": value for key, value in general.items()}


def _plan(
    architecture: Architecture, config: ModelConfig, tensors: Mapping[str, Tensor], scheme: str, *, calibrated: bool
) -> list[Placed]:
    """Every tensor in order, with its type. Raises `TinyslmError` for weights that are not finite."""
    plan = []
    for name, tensor in architecture.tensors_to_gguf(config, tensors):
        wanted = wanted_type(scheme, name, tensor.dim(), config.depth, tied=config.tied, calibrated=calibrated)
        kind, why = fitting_type(wanted, tensor.shape[-1]), ""
        if kind != wanted:
            why = f"its rows of {tensor.shape[-1]} are not a multiple of {block_of(wanted)[0]}"
        largest = float(tensor.abs().max())
        if not largest < float("inf"):
            raise TinyslmError(
                f"The weights that become {name} are not all finite numbers.",
                "Train again, or use an older checkpoint.",
            )
        if largest > LARGEST_HALF and kind not in ("F32", "BF16"):
            kind, why = "F32", f"it has values up to {largest:.3g}, and half precision ends at {LARGEST_HALF:.0f}"
        plan.append(Placed(name, tuple(tensor.shape), wanted, kind, why))
    return plan


def _by_gguf_name(
    architecture: Architecture, config: ModelConfig, tensors: Mapping[str, Tensor], importance: Importance
) -> Importance:
    """Importance by the file's names; products that are stored as one tensor read the same input."""
    parts = architecture.written_parts(config, tensors) if importance else []
    return {part.outside: importance[part.inside[0]] for part in parts if part.inside[0] in importance}


def _write_file(
    path: Path,
    keys: Mapping[str, Any],
    plan: Sequence[Placed],
    values: Iterable[Tensor],
    importance: Importance,
    threads: int,
) -> None:
    """Write under a temporary name next to `path`, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    contents = (
        encoded(tensor.cpu(), placed.kind, importance.get(placed.name), threads)
        for placed, tensor in zip(plan, values, strict=True)
    )
    try:
        write_container(temporary, keys, plan, contents)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_container(
    path: Path, keys: Mapping[str, Any], plan: Sequence[Placed], contents: Iterable[NDArray[np.uint8]]
) -> None:
    """Write a GGUF file; `contents` gives the bytes of each planned tensor in turn.

    Values of `keys` are booleans, integers (32 bits, unsigned; signed in lists), floats (fp32), strings, or lists of
    one of these; an empty list is one of strings.
    """
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

    class Writer(GGUFWriter):
        def _pack_val(self, val: Any, vtype: Any, add_vtype: bool, sub_type: Any = None) -> bytes:
            if vtype == GGUFValueType.ARRAY and not val:  # llama.cpp needs the list of merges even if there are none
                return struct.pack("<IIQ", vtype, GGUFValueType.STRING, 0)
            packed: bytes = super()._pack_val(val, vtype, add_vtype, sub_type)
            return packed

    rest = dict(keys)
    writer = Writer(path, rest.pop("general.architecture"))
    try:
        for key, value in rest.items():
            kind = GGUFValueType.UINT32 if type(value) is int else GGUFValueType.get_type(value)
            writer.add_key_value(key, value, kind)
        for placed in plan:
            size, code = bytes_of(placed.kind, placed.shape), GGMLQuantizationType[placed.kind]
            writer.add_tensor_info(placed.name, placed.shape, np.dtype(np.float32), size, code)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for content in contents:
            writer.write_tensor_data(content)
    finally:
        writer.close()


def _type_notes(plan: Sequence[Placed]) -> list[str]:
    """The tensors whose format differs from the scheme's, and why: one line for each format and reason."""

    def alike(placed: Placed) -> tuple[str, str, str]:
        return placed.wanted, placed.kind, placed.why

    differing = sorted((placed for placed in plan if placed.why), key=alike)
    return [
        f"{_names([placed.name for placed in group])}: {kind} instead of {wanted}, because {why}"
        for (wanted, kind, why), group in groupby(differing, key=alike)
    ]


def _names(names: Sequence[str]) -> str:
    """Names with the blocks of each kind of tensor together, as `blk.0-3,7.ffn_down.weight`."""
    blocks: dict[str, list[int]] = {}
    for name in names:
        _, number, rest = name.split(".", 2) if name.startswith("blk.") else ("", "", name)
        blocks.setdefault(rest, []).extend([int(number)] if number else [])
    return ", ".join(f"blk.{_spans(numbers)}.{rest}" if numbers else rest for rest, numbers in blocks.items())


def _spans(numbers: Sequence[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3 and 7."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _context_notes(architecture: Architecture, config: ModelConfig) -> list[str]:
    context = architecture.context(config)
    if context == config.context:
        return []
    reason = (
        "llama.cpp would apply longrope's factors for long texts to short ones too"
        if context == config.switch_length
        else f"llama.cpp computes no attention windows in the architecture {architecture.name}"
    )
    return [f"the context is {context} instead of {config.context}: {reason}, so its texts would differ"]
