"""LoRA: trainable low-rank updates of frozen linear layers (Hu et al., 2021), saved in PEFT's file format.

A layer with an adapter computes W x + s B A x, with A `[rank, in]`, B `[out, rank]` and the scale s = alpha / rank, or
alpha / sqrt(rank) if rank-stabilised (Kalajdzievski, 2023). DoRA (Liu et al., 2024) also learns the magnitude of each
row of W + s B A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, write_atomic, write_json
from tinyslm.core.json_files import read_json
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import load_tokenizer, to_outside
from tinyslm.model.layers import Linear
from tinyslm.model.lora_config import LoraConfig
from tinyslm.model.packed import PackedLinear
from tinyslm.model.token_rows import add_rows, enlarge, merge_rows, tables_with_rows
from tinyslm.model.weights import has_weights, weights_hash
from tinyslm.tokenizer.settings import TEMPLATE
from tinyslm.tokenizer.tokenizer import Tokenizer

WEIGHTS, CONFIG, BASE = "adapter_model.safetensors", "adapter_config.json", "base.json"
_PREFIX = "base_model.model."


class Adapter(nn.Module):
    """The update of one linear layer: `A` `[rank, in]`, `B` `[out, rank]`, and for DoRA the `magnitude` `[out]`."""

    def __init__(self, linear: Linear | PackedLinear, config: LoraConfig) -> None:
        super().__init__()
        device = next(iter(linear.state_dict().values())).device
        self.scale = config.scale
        self.dropout = config.dropout
        self.A = nn.Parameter(torch.empty(config.rank, linear.in_features, device=device))
        self.B = nn.Parameter(torch.zeros(linear.out_features, config.rank, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.magnitude = nn.Parameter(dense_weight(linear).float().norm(dim=1)) if config.dora else None

    def forward(self, x: Tensor, y: Tensor, linear: Linear | PackedLinear) -> Tensor:
        """The adapted output `[..., out]`, given the layer's input x `[..., in]` and its frozen output y."""
        low = F.linear(F.dropout(x, self.dropout, self.training) if self.dropout else x, self.A.to(_like(x)))
        low, up = low * self.scale, self.B.to(low.dtype)
        if self.magnitude is None:  # one pass over the output instead of three
            return torch.addmm(y.flatten(0, -2), low.flatten(0, -2), up.t()).view_as(y)
        update = F.linear(low, up)
        bias = 0 if linear.bias is None else linear.bias
        with torch.no_grad():  # no gradient flows through the norm, as in the paper (section 4.3)
            norm = (dense_weight(linear).float() + self.delta()).norm(dim=1)
        out: Tensor = (y - bias + update) * (self.magnitude / norm).to(y.dtype) + bias
        return out

    def delta(self) -> Tensor:
        """The weight update s B A, fp32 `[out, in]`."""
        return self.scale * (self.B.float() @ self.A.float())

    def merged(self, weight: Tensor) -> Tensor:
        """The layer's weight with its update, fp32 `[out, in]`."""
        whole = torch.addmm(weight.float(), self.B.float(), self.A.float(), alpha=self.scale)
        return whole if self.magnitude is None else whole * (self.magnitude / whole.norm(dim=1))[:, None]


def add_adapters(model: Decoder, config: LoraConfig) -> None:
    """Freeze a model and add an adapter to each linear layer in `config.targets`, or to all layers if it is empty.

    The rows of `config.token_rows` are trained, too; the token tables are enlarged for those that they lack.
    Raises `TinyslmError` for names that no layer has.
    """
    if config.token_rows:
        enlarge(model, max(config.token_rows) + 1)
    model.requires_grad_(False)
    layers = dict(_linears(model))
    found = {name.rpartition(".")[2] for name in layers}
    if wrong := [name for name in config.targets if name not in found]:
        raise TinyslmError(f'The model has no linear layer "{wrong[0]}".', f"It has: {', '.join(sorted(found))}.")
    for name, linear in layers.items():
        if not config.targets or name.rpartition(".")[2] in config.targets:
            linear.adapter = Adapter(linear, config)
    if config.token_rows:
        add_rows(model, config.token_rows)


def narrow_frozen(model: Decoder, dtype: torch.dtype) -> None:
    """Keep the frozen weights of the blocks in the type that they are multiplied in: the products stay the same."""
    for _, linear in _linears(model):
        if isinstance(linear, Linear) and not linear.weight.requires_grad:
            linear.weight.data = linear.weight.data.to(dtype)


def adapter_tensors(model: Decoder) -> dict[str, Tensor]:
    """The tensors of the adapters, by their names in the model's state."""
    return {name: tensor for name, tensor in model.state_dict().items() if ".adapter." in name}


def has_adapters(model: Decoder) -> bool:
    """Whether any layer has an adapter."""
    return any(True for _ in _adapted(model))


@contextmanager
def without_adapters(model: Decoder) -> Iterator[None]:
    """The model computes as its base while this lasts."""
    adapted = [(linear, linear.adapter) for _, linear in (*_adapted(model), *tables_with_rows(model))]
    adapted += [(model.lm_head, model.lm_head.adapter)]
    try:
        for linear, _ in adapted:
            linear.adapter = None
        yield
    finally:
        for linear, adapter in adapted:
            linear.adapter = adapter


def merged_copy(model: Decoder, dtype: torch.dtype) -> Decoder:
    """A copy for generating, with the adapters merged into its weights; it shares the other weights if it can."""
    shared: dict[int, Any] = {id(one): nn.Parameter(one.data, requires_grad=False) for one in model.parameters()}
    shared |= {id(one): one for one in model.buffers()}
    copied = deepcopy(model, shared)
    merge_adapters(copied, dtype)
    return copied.to(dtype).eval().requires_grad_(False)


@torch.no_grad()
def merge_adapters(model: Decoder, unpacked: torch.dtype = torch.float32) -> None:
    """Merge the adapters into the weights and remove them. Packed layers become dense, in the type `unpacked`."""
    for name, linear in list(_adapted(model)):
        adapter: Any = linear.adapter
        whole = adapter.merged(dense_weight(linear))
        linear.adapter = None
        if isinstance(linear, PackedLinear):
            dense = Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
            dense.weight, dense.bias = nn.Parameter(whole.to(unpacked)), linear.bias  # type: ignore[assignment]
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, dense)
        else:
            linear.weight.data = whole.to(linear.weight.dtype)
    merge_rows(model)
    model.requires_grad_(True)


@torch.no_grad()
def merged_weight(layer: nn.Module) -> Tensor:
    """A layer's weight, unpacked where it is packed, with what its adapter adds, if it has one."""
    weight = layer.dense() if isinstance(layer, PackedLinear) else cast(Tensor, layer.weight).detach()
    adapter: Any = getattr(layer, "adapter", None)
    return weight if adapter is None else cast(Tensor, adapter.merged(weight))


def dense_weight(linear: Linear | PackedLinear) -> Tensor:
    """A layer's weight, `[out, in]`, unpacked where it is packed."""
    return linear.dense() if isinstance(linear, PackedLinear) else linear.weight.detach()


def save_adapters(
    model: Decoder, folder: Path, config: LoraConfig, base: Path, tokenizer: Tokenizer | None = None
) -> bool:
    """Write the adapters in PEFT's format, whole or not at all; in `base.json`, the hash of the base's weights.

    tokenizer: the one that they were trained with. What the base's lacks is written, too: its chat template, or all of
    it if it has other tokens.

    Returns False and writes nothing for families whose files fuse several of our matrices into one: PEFT has no
    adapters for parts of a matrix.
    """
    names = _outside_names(model)
    if any(f"{name}.weight" not in names for name, _ in _adapted(model)):
        return False
    tensors: dict[str, Tensor] = {}
    for name, linear in _adapted(model):
        adapter: Any = linear.adapter
        outside = _PREFIX + names[f"{name}.weight"].removesuffix(".weight")
        tensors[f"{outside}.lora_A.weight"] = adapter.A.detach().float().contiguous()
        tensors[f"{outside}.lora_B.weight"] = adapter.B.detach().float().contiguous()
        if adapter.magnitude is not None:
            tensors[f"{outside}.lora_magnitude_vector"] = adapter.magnitude.detach().float().contiguous()
    targets = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in tensors})
    for name, table in tables_with_rows(model):
        outside = _PREFIX + names[f"{name}.weight"].removesuffix(".weight")
        tensors[outside + _ROWS] = table.adapter.rows.detach().float().contiguous()
    rows = {
        name.removesuffix(_ROWS).rpartition(".")[2]: list(config.token_rows) for name in tensors if name.endswith(_ROWS)
    }
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        given = _peft_config(config, targets, base)
        write_json(temporary / CONFIG, given | ({"trainable_token_indices": rows} if rows else {}))
        if has_weights(base):
            write_json(temporary / BASE, {"weights": weights_hash(base)})
        if tokenizer is not None:
            _save_what_is_new(tokenizer, load_tokenizer(base), temporary)
    return True


def _save_what_is_new(tokenizer: Tokenizer, before: Tokenizer, folder: Path) -> None:
    if tokenizer.sha256 != before.sha256:
        tokenizer.save(folder)
    elif tokenizer.chat_template is not None and tokenizer.chat_template != before.chat_template:
        write_atomic(folder / TEMPLATE, tokenizer.chat_template)


def load_adapters(model: Decoder, folder: Path, base: Path | None = None) -> None:
    """Add the adapters in a folder that PEFT or `save_adapters` wrote to a model.

    base: the model's folder, compared with the one that the adapters were trained on, if `save_adapters` wrote which.
    Raises `TinyslmError` for unsupported settings or tensors, and for adapters of another model.
    """
    if base is not None:
        _check_base(folder, base)
    given = read_json(folder / CONFIG, remedy="Give a folder with an adapter in PEFT's format.")
    config = _from_peft(given, folder)
    inside = {theirs: ours for ours, theirs in _outside_names(model).items()}
    tensors = load_file(folder / WEIGHTS)
    by_layer: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, _, part = key.removeprefix(_PREFIX).removesuffix(_ROWS).partition(".lora_")
        ours = inside.get(f"{layer}.weight")
        part = _ROWS if key.endswith(_ROWS) else part
        if ours is None or part not in _PARTS:
            raise TinyslmError(
                f'{folder} has "{key}", which fits no layer of the model.', "Use the adapter's own base model."
            )
        by_layer.setdefault(ours.removesuffix(".weight"), {})[_PARTS[part]] = tensor
    targets = {name.rpartition(".")[2] for name, parts in by_layer.items() if "rows" not in parts}
    add_adapters(model, config.model_copy(update={"targets": sorted(targets)}))
    for name, linear in (*_adapted(model), *tables_with_rows(model)):
        parts, adapter = by_layer.pop(name, {}), linear.adapter
        for part, parameter in adapter.named_parameters():
            if part not in parts or parts[part].shape != parameter.shape:
                raise TinyslmError(
                    f"{folder} has no {part} that fits the layer {name}.", "Use the adapter's own base model."
                )
            parameter.data = parts[part].to(parameter)


def _check_base(folder: Path, base: Path) -> None:
    """Raise `TinyslmError` if adapters were trained on other weights than those in `base`."""
    if not (folder / BASE).is_file():
        return
    recorded = read_json(folder / BASE, remedy="Restore the file from the run that trained the adapter.")
    if recorded.get("weights") != weights_hash(base):
        raise TinyslmError(
            f"The adapter in {folder} was trained on another model than {base}: the weights differ.",
            f"Use its own base model; to try it on this one, remove {folder / BASE}.",
        )


_ROWS = ".token_adapter.trainable_tokens_delta"
_PARTS = {
    _ROWS: "rows",
    "A.weight": "A",
    "B.weight": "B",
    "magnitude_vector": "magnitude",
    "magnitude_vector.weight": "magnitude",
}
_IGNORED = {"base_model_name_or_path", "revision", "task_type", "inference_mode", "auto_mapping", "peft_version"}


def _peft_config(config: LoraConfig, targets: Sequence[str], base: Path) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "use_dora": config.dora,
        "target_modules": list(targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _from_peft(given: Mapping[str, Any], folder: Path) -> LoraConfig:
    known = {"r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "peft_type", "bias"}
    known |= {"trainable_token_indices"}
    plain = {None, False, "none"}
    odd = [
        key for key, value in given.items()
        if key not in known | _IGNORED and not (isinstance(value, list | dict) and not value)
        and (isinstance(value, list | dict) or value not in plain) and key not in _HARMLESS
    ]  # fmt: skip
    if given.get("peft_type") != "LORA" or given.get("bias", "none") != "none" or odd:
        what = f'"{odd[0]}": {given[odd[0]]!r}' if odd else f"the type {given.get('peft_type')} or biases"
        raise TinyslmError(
            f"{folder} has an adapter with {what}, which is not supported.", "Merge it into its base model with PEFT."
        )
    rows = given.get("trainable_token_indices") or []
    tables = list(rows.values()) if isinstance(rows, dict) else [rows]
    if any(ids != tables[0] for ids in tables):
        raise TinyslmError(
            f"{folder} has rows of different tokens for input and output, which is not supported.",
            "Merge it into its base model with PEFT.",
        )
    values: dict[str, Any] = {"token_rows": tables[0]}
    values |= {"rank": given["r"], "alpha": given["lora_alpha"], "dropout": given.get("lora_dropout", 0.0)}
    values |= {"rank_stabilised": bool(given.get("use_rslora")), "dora": bool(given.get("use_dora"))}
    return build_config(LoraConfig, values, origin=str(folder / CONFIG))


_HARMLESS = {"init_lora_weights", "megatron_core", "qalora_group_size"}


def _linears(model: Decoder) -> Iterator[tuple[str, Any]]:
    """The linear layers of the blocks, by name."""
    for name, module in model.model.layers.named_modules():
        if isinstance(module, Linear | PackedLinear):
            yield f"model.layers.{name}", module


def _adapted(model: Decoder) -> Iterator[tuple[str, Any]]:
    return ((name, linear) for name, linear in _linears(model) if linear.adapter is not None)


def _outside_names(model: Decoder) -> dict[str, str]:
    """The names in weight files of the linear layers whose weights are stored unchanged."""
    inside = {f"{name}.weight": torch.empty(linear.out_features, linear.in_features, device="meta")
              for name, linear in _linears(model)}  # fmt: skip
    others = {name: tensor.to("meta") for name, tensor in model.state_dict().items() if ".adapter." not in name}
    if model.config.tied:
        others.pop("lm_head.weight", None)
    tables = {name: tensor for name, tensor in others.items() if name in _TABLES}
    inside |= {name: torch.empty_like(tensor) for name, tensor in tables.items()}
    whole = {name: tensor for name, tensor in others.items() if ".weight_" not in name} | inside
    outside = to_outside(FAMILIES[model.config.family], model.config, whole)
    by_tensor = {id(tensor): name for name, tensor in outside.items()}
    return {name: by_tensor[id(tensor)] for name, tensor in inside.items() if id(tensor) in by_tensor}


_TABLES = {"model.embed_tokens.weight", "lm_head.weight"}


def _like(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
