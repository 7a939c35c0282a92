"""A model folder from a GGUF file: the shape from its metadata, the weights tensor by tensor, the tokenizer.

Whatever in the file could change the mathematics must be understood: an architecture, a key about its shape or a tensor
that is not known is refused by name, as is one that is missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.files import sha256_file
from tinyslm.core.locks import new_output
from tinyslm.core.printable import one_line
from tinyslm.export.format import Source
from tinyslm.export.gguf.architecture import REQUIRED, Architecture
from tinyslm.export.gguf.architectures import architecture_of_gguf
from tinyslm.export.gguf.reader import Gguf, TensorPlace, Value, shown
from tinyslm.export.gguf.rope_scaling import LONGROPE_TENSORS, ROPE_TENSORS
from tinyslm.export.gguf.rope_scaling import TENSOR as ROPE_DIVISORS
from tinyslm.export.gguf.vocabulary import read_tokenizer
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model, state_tensors

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
HALVES = {"BF16": "bf16", "F16": "fp16"}  # GGUF's formats that a model folder can hold as they are
LARGEST = {int: 1 << 31, float: 1e18}  # no number about a model comes near

Progress = Callable[[str, int, int], None]

# Keys about the shape that every architecture has. Numbers are positive unless they stand in MAY_BE_ZERO.
SHAPE = frozenset(REQUIRED.values()) | {"attention.head_count_kv", "attention.key_length", "attention.value_length"}
ROPE = frozenset(
    f"rope.{key}"
    for key in (
        "dimension_count",
        "freq_base",
        "scaling.type",
        "scaling.factor",
        "scaling.original_context_length",
        "scaling.attn_factor",
        "scaling.finetuned",
    )
)
# Those that only some have, besides the ones in the table of architectures.
OWN: Mapping[str, frozenset[str]] = {
    "granite": frozenset({"attention.scale"}),
    "gptneox": frozenset({"use_parallel_residual"}),
    "stablelm": frozenset({"use_parallel_residual"}),
    "gemma3": frozenset({"attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"}),
    "gemma2": frozenset({"attention.sliding_window"}),
    "olmo2": frozenset({"attention.sliding_window", "attention.sliding_window_pattern"}),
    "llama": frozenset({"attention.sliding_window"}),
    "phi3": frozenset({"attention.sliding_window"}),
}
# Those that change nothing, while they have one of these values (None: any).
WITHOUT_EFFECT: Mapping[str, tuple[Any, ...] | None] = {
    "vocab_size": None,
    "tensor_data_layout": None,
    "attention.causal": (True,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "attn_logit_softcapping": (0.0,),
    "nextn_predict_layers": (0,),
}
MAY_BE_ZERO = frozenset(
    {"attention.sliding_window", "rope.scaling.factor", "final_logit_softcapping", "attention.scale", *WITHOUT_EFFECT}
)


@dataclass(frozen=True)
class Imported:
    """What an import made: the folder, the model's shape, its number format, and how many tensors had which before."""

    folder: Path
    config: ModelConfig
    dtype: str
    formats: Mapping[str, int]


def import_gguf(
    file: str | Path, out: str | Path, *, dtype: str = "auto", licence: str = "", progress: Progress = lambda *_: None
) -> Imported:
    """Write the model folder `out` from a GGUF file; nothing is written when something is wrong.

    dtype: the number format of the weights: "fp32", "bf16" or "fp16". "auto" is the smallest that changes no value:
        bf16 or fp16 for a file that has its matrices so, fp32 otherwise (quantized values need it).
    licence: of the model, if the file does not say; recorded in the folder.
    progress: called with `(stage, bytes read, bytes in all)`.

    Raises `TinyslmError` when `out` exists, when the file is damaged, or when anything in it is not supported.
    """
    with new_output(Path(out)):
        return _imported(file, Path(out), dtype, licence, progress)


def read_source(path: Path) -> Source:
    """The configuration and the tokenizer of a GGUF file. Raises `TinyslmError` for what is not supported."""
    file = Gguf(path)
    return Source(_config(file, _architecture(file)), read_tokenizer(file))


def _imported(file: str | Path, out: Path, dtype: str, licence: str, progress: Progress) -> Imported:
    source = Gguf(file)
    architecture = _architecture(source)
    config = _config(source, architecture)
    tokenizer = read_tokenizer(source)
    chosen = _dtype(source, dtype)
    model = _empty(source, config)
    model.load_state_dict(_weights(source, architecture, model, DTYPES[chosen], progress), strict=False, assign=True)
    if config.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    progress("writing", 0, 0)
    formats = dict(Counter(place.format for place in source.tensors.values()))
    origin = {"file": source.path.name, "sha256": sha256_file(source.path), "formats": formats}
    if licence := source.get("general.license", str) or licence:
        origin["licence"] = licence
    save_model(model, out, tokenizer, {"imported_from": origin})
    return Imported(out, config, chosen, formats)


class _Tensors(Mapping[str, Tensor]):
    """A file's tensors, each read in fp32 when it is asked for; remembers which were."""

    def __init__(self, file: Gguf, progress: Progress) -> None:
        self._file, self._progress = file, progress
        self._total = sum(place.size for place in file.tensors.values())
        self._done = 0
        self.unread = set(file.tensors)

    def __getitem__(self, name: str) -> Tensor:
        tensor = torch.from_numpy(self._file.read(name))
        if name in self.unread:
            self.unread.remove(name)
            self._done += self._file.tensors[name].size
            self._progress("reading", self._done, self._total)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.tensors)

    def __len__(self) -> int:
        return len(self._file.tensors)


def _architecture(file: Gguf) -> Architecture:
    """The architecture of a file that holds a whole model."""
    kind = file.get("general.type", str)
    if kind not in (None, "model"):
        raise TinyslmError(f"{file.path} is not a model but of the type {one_line(kind, 40)}.", "Give a model file.")
    parts = file.get("split.count", int)
    if parts is not None and parts > 1:
        raise TinyslmError(
            f"{file.path} is one of {parts} parts of a model.", "Join them first: llama-gguf-split --merge PART1 WHOLE."
        )
    return architecture_of_gguf(file.need("general.architecture", str))


def _config(file: Gguf, architecture: Architecture) -> ModelConfig:
    """The model's shape, from keys that are all known and make sense, and from the shapes of tensors."""
    shape_keys = _shape_keys(file, architecture)
    shapes = {name: torch.empty(place.shape, device="meta") for name, place in file.tensors.items()}
    for name in sorted(ROPE_TENSORS & shapes.keys()):
        if not (architecture.divisors if name == ROPE_DIVISORS else architecture.longrope):
            raise _refusal(file, f"a tensor {name}, which the architecture {architecture.name} does not have")
        _check_divisors(file, file.tensors[name], shape_keys)
        shapes[name] = torch.from_numpy(file.read(name))
    if len(LONGROPE_TENSORS.values() & shapes.keys()) == 1:
        raise _refusal(file, "one of LongRoPE's two tensors of divisors, but not the other")
    settings = architecture.settings({f"{architecture.name}.{key}": value for key, value in shape_keys.items()}, shapes)
    window = shape_keys.get("attention.sliding_window", 0)
    if window and not architecture.windows and window < settings["context"]:
        # llama.cpp computes such models without their window; here they get what they were trained with.
        settings |= {"window": window, "family": "mistral" if architecture.name == "llama" else architecture.family}
    return build_config(ModelConfig, settings, origin=str(file.path))


def _shape_keys(file: Gguf, architecture: Architecture) -> dict[str, Any]:
    """The keys about the model's shape, without the architecture's name; unknown ones and odd values are refused."""
    prefix = f"{architecture.name}."
    known = SHAPE | set(architecture.keys.values()) | OWN.get(architecture.name, frozenset())
    known |= ROPE if architecture.rotary else frozenset()
    shape_keys: dict[str, Any] = {}
    for key in file.metadata:
        if not key.startswith(prefix):
            continue
        name, value = key.removeprefix(prefix), _one_for_all(key, file.metadata[key])
        if name not in known and not _is_harmless(name, value):
            raise _refusal(
                file,
                f"the setting {one_line(key, 80)} = {one_line(shown(value), 40)}",
                f"{'' if name in WITHOUT_EFFECT else did_you_mean(name, known) + ' '}"
                "Ignoring it could give wrong results, so it is refused.",
            )
        if name in known:
            shape_keys[name] = _sensible(file, key, value, may_be_zero=name in MAY_BE_ZERO)
    blocks = shape_keys.get(REQUIRED["depth"], 0)
    if isinstance(blocks, int) and blocks > len(file.tensors):
        raise _refusal(file, f"{blocks:,} blocks in {len(file.tensors):,} tensors")
    usual = shape_keys.get("embedding_length", 0) // shape_keys.get("attention.head_count", 1)
    if shape_keys.get("attention.value_length", usual) != shape_keys.get("attention.key_length", usual):
        raise _refusal(file, "values of another width than keys (attention.value_length)")
    return shape_keys


def _is_harmless(name: str, value: Value) -> bool:
    """Whether a key that is not read has a value that changes nothing; values that differ by block never are."""
    if name not in WITHOUT_EFFECT:
        return False
    harmless = WITHOUT_EFFECT[name]
    return harmless is None or (isinstance(value, bool | int | float) and value in harmless)


def _one_for_all(key: str, value: Value) -> Any:
    """One value for an array with a value for each block: that of all blocks, or n where every n-th has no window."""
    flags = value if isinstance(value, np.ndarray) and key.endswith("sliding_window_pattern") else np.zeros(0)
    if len(flags) and flags.dtype == bool and flags[0] and not flags.all():
        period = int(flags.argmin()) + 1
        return period if all(bool(one) == bool((i + 1) % period) for i, one in enumerate(flags)) else value
    if isinstance(value, np.ndarray) and len(value) and bool((value == value[0]).all()):
        return value[0].item()
    return value


def _sensible(file: Gguf, key: str, value: Any, *, may_be_zero: bool) -> Any:
    """A value that is a text, a truth value or a number in a possible range."""
    text = key.endswith("rope.scaling.type")
    truth = key.endswith((".use_parallel_residual", ".finetuned"))
    if text or truth:
        right = isinstance(value, str if text else bool)
    else:
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        right = right and (0 if may_be_zero else 1e-30) <= value < LARGEST[type(value)]
        whole = key.endswith(("_count", "_length", "_count_kv", "sliding_window", "sliding_window_pattern"))
        right = right and (isinstance(value, int) or not whole)
    if not right:
        raise _refusal(file, f"{key} = {one_line(shown(value), 40)}")
    return value


def _check_divisors(file: Gguf, place: TensorPlace, shape_keys: Mapping[str, Any]) -> None:
    """There is one divisor for each frequency."""
    width = shape_keys.get("attention.key_length") or shape_keys.get("embedding_length", 0) // shape_keys.get(
        "attention.head_count", 1
    )
    if place.shape != (shape_keys.get("rope.dimension_count", width) // 2,):
        raise _refusal(file, f"{'by'.join(map(str, place.shape))} divisors of rotary frequencies for heads of {width}")


def _dtype(file: Gguf, name: str) -> str:
    """The number format of the folder; "auto" is the format of the file's matrices where it holds every value."""
    if name != "auto":
        if name not in DTYPES:
            raise TinyslmError(f'Unknown number format "{name}".', did_you_mean(name, ["auto", *DTYPES]))
        return name
    matrices = {place.format for place in file.tensors.values() if len(place.shape) > 1}
    half = HALVES.get(next(iter(matrices), "")) if len(matrices) == 1 else None
    if half is None:
        return "fp32"
    others = [place.name for place in file.tensors.values() if len(place.shape) == 1 and place.name not in ROPE_TENSORS]
    vectors = (torch.from_numpy(file.read(name)) for name in others)
    return half if all(torch.equal(vector, vector.to(DTYPES[half]).float()) for vector in vectors) else "fp32"


def _empty(file: Gguf, config: ModelConfig) -> Decoder:
    """The model without memory for its weights."""
    largest = max(max(place.shape) for place in file.tensors.values())
    for what, width in (("dim", config.dim), ("ffn_dim", config.ffn_dim), ("heads", config.heads * config.head_dim)):
        if width > largest:
            raise _refusal(file, f"{what} = {width:,}, but no tensor that is so wide")
    with torch.device("meta"):
        return Decoder(config)


def _weights(
    file: Gguf, architecture: Architecture, model: Decoder, dtype: torch.dtype, progress: Progress
) -> dict[str, Tensor]:
    """Every weight of the model in its number format; each is read, converted and dropped before the next."""
    expected = {name: tensor.shape for name, tensor in state_tensors(model).items()}
    tensors = _Tensors(file, progress)
    weights: dict[str, Tensor] = {}
    for name, tensor in architecture.tensors_from_gguf(model.config, tensors, expected):
        if tensor.shape != expected[name]:
            raise _refusal(file, f"{name} in the shape {list(tensor.shape)} instead of {list(expected[name])}")
        weight = tensor.to(dtype).contiguous()
        if not torch.isfinite(weight).all():
            raise TinyslmError(f"A value of {name} does not fit into this number format.", "Give --dtype fp32.")
        shared = weight.untyped_storage().nbytes() > weight.nbytes
        weights[name] = weight.clone() if shared else weight
    if missing := [name for name in expected if name not in weights]:
        raise _refusal(file, f"no weights for {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    if left := sorted(tensors.unread - ROPE_TENSORS):
        raise _refusal(file, f"a tensor {left[0]} that has no place in this model")
    return weights


def _refusal(file: Gguf, what: str, remedy: str = "") -> TinyslmError:
    return TinyslmError(
        f"{file.path} cannot be imported: it has {what}.",
        remedy
        or "Get the file again, or another conversion of the model; the original safetensors are the best source.",
    )
