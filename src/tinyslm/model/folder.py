"""Model folders: reading and writing models in the Hugging Face layout.

A folder holds `config.json`, `model.safetensors`, `generation_config.json` and the tokenizer's files.
Folders written here also hold `tinyslm.json`: the checksum of the weights, and what is known of their training.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, checksum_file, write_json
from tinyslm.core.json_files import read_json
from tinyslm.hardware.device import has_fast_bf16
from tinyslm.model.compressed_tensors import from_stored, is_quantized
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES, family_of
from tinyslm.model.family import Family
from tinyslm.model.packed import PackedTensor, install, is_packed
from tinyslm.model.renaming import Rule, expanded, joined, parted
from tinyslm.model.weights import WEIGHTS, has_weights, named_tensors, read_tensors, weight_files, write_tensors
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.settings import read_chat_template
from tinyslm.tokenizer.tokenizer import Tokenizer

CARD = "tinyslm.json"
LARGE = 2**28
"""Parameters of a model for which memory is not taken before it is clear that there are weights for it."""

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")  # written even if there are none: readers have defaults


def save_model(
    model: Decoder, folder: str | Path, tokenizer: Tokenizer | None = None, training: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder (whole or not at all), with its tokenizer and a record of its training if given."""
    assert not is_packed(model), "a packed model is written by `tinyslm quantize`"
    config = model.config
    family = FAMILIES[config.family]
    with atomic_folder(Path(folder)) as temporary:
        tensors = to_outside(family, config, state_tensors(model))
        write_tensors(temporary / WEIGHTS, tensors)
        special = {}
        if tokenizer is not None:
            tokenizer.save(temporary, context=config.context)
            special = {
                "bos_token_id": tokenizer.bos_id,
                "eos_token_id": tokenizer.eos_id,
                "pad_token_id": tokenizer.pad_id,
            }
        dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
        fields = {**family.config_to_hf(config), "dtype": dtype, **dict.fromkeys(SPECIAL)}
        write_json(temporary / "config.json", {**fields, **special})
        stop = {**special, "eos_token_id": list(tokenizer.stop_ids)} if tokenizer else {}
        write_json(temporary / "generation_config.json", stop)
        write_card(temporary, training or {})


def load_model(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    dense: bool = False,
    mapped: bool = True,
) -> Decoder:
    """Read a model folder, written here or by transformers; the model is in evaluation mode.

    Weights that have the type already stay in the file, which is mapped into memory, if they may be `mapped`; those of
    a model that is trained may not. dense: unpack quantized weights.
    Raises `TinyslmError` when files are missing or damaged, when a tensor is missing, left over or of another shape,
    and when the configuration asks for something that is not implemented.
    """
    folder = Path(folder)
    config = read_model_config(folder)
    _check_size(folder, config)
    recorded = read_card(folder).get("xxh3", {})
    stored: Iterable[tuple[str, Tensor | PackedTensor]]
    if quantized(folder):
        stored = from_stored(dict(read_tensors(folder, recorded, mapped=mapped)), folder).items()
    else:
        stored = read_tensors(folder, recorded, dtype, mapped=mapped)
    empty = Decoder(config, drawn=False)
    tensors = to_inside(FAMILIES[config.family], empty, stored)
    if config.tied and "lm_head.weight" in tensors:
        tensors.setdefault("model.embed_tokens.weight", tensors.pop("lm_head.weight"))  # the same, or the only one
    _check_tensors(folder, tensors, state_tensors(empty))
    return model_of(config, tensors, dtype=dtype, dense=dense).to(device)


def model_of(
    config: ModelConfig, tensors: Mapping[str, Tensor | PackedTensor], *, dtype: torch.dtype, dense: bool = False
) -> Decoder:
    """The model with these weights by name, in evaluation mode; packed ones stay packed unless `dense`."""
    model = Decoder(config, drawn=False)
    ordinary = install(model, tensors, dtype=dtype, dense=dense)
    model.load_state_dict(ordinary, strict=False, assign=True)
    if config.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval()


def usual_dtype(folder: Path, device: torch.device) -> torch.dtype:
    """What a model folder is computed in unless somebody says otherwise: bf16 where its weights are stored in bf16 and
    `device` is fast at it, else fp32; so no weight is ever rounded."""
    fields = _read_config_file(folder)
    narrow = fields.get("dtype", fields.get("torch_dtype")) == "bfloat16" and not is_quantized(fields, str(folder))
    return torch.bfloat16 if narrow and has_fast_bf16(device) else torch.float32


def quantized(folder: Path) -> bool:
    """Whether the weights of a model folder are packed."""
    return is_quantized(_read_config_file(folder), str(folder / "config.json"))


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder."""
    return Tokenizer.load(Path(folder))


def find_model(path: Path) -> Path:
    """The model folder that `path` means: itself, or the `model` folder of a finished run."""
    inside = path / "model"
    if has_weights(path):
        return path
    if (inside / "config.json").is_file():
        return inside
    if is_unfinished(path):
        raise TinyslmError(
            f"The run in {path} has not finished: it has no model yet.", f"Resume it: tinyslm train --resume {path}"
        )
    return path


def is_unfinished(path: Path) -> bool:
    """Whether `path` is the folder of a run that has not written its model."""
    return (path / "checkpoints").is_dir() and not (has_weights(path) or (path / "model" / "config.json").is_file())


def name_of(folder: Path) -> str:
    """What a model is called: by its folder, or for a run's `model` folder by the run."""
    path = folder.resolve()
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def read_model_config(folder: Path, *, alone: bool = False) -> ModelConfig:
    """The shape of the model in a folder, from its `config.json`.

    If the config ties the output projection to the token embedding, but the weights hold both with different values,
    the model is not tied, as in transformers. alone: do not look at the weights, which may be incomplete.
    """
    if not folder.is_dir():
        problem = f"{folder} is a file, not a model folder." if folder.exists() else f"{folder} does not exist."
        raise TinyslmError(problem, "Give a model folder, which holds config.json and weights, or a run folder.")
    hf = _read_config_file(folder)
    family = family_of(str(hf["model_type"]))
    settings = family.config_from_hf(hf)
    try:
        config = build_config(ModelConfig, settings, origin=str(folder / "config.json"))
    except TinyslmError as error:
        raise TinyslmError(
            error.problem, "Restore the file from the model's source: these do not fit together."
        ) from None
    if config.tied and not alone and has_weights(folder) and _has_own_output(folder, family):
        return config.model_copy(update={"tied": False})
    return config


def _read_config_file(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise TinyslmError(
            f"{folder} is not a model folder: it has no config.json.", "Give a folder in the Hugging Face layout."
        )
    hf = read_json(path, remedy="Restore the file from the model's source.")
    if "model_type" not in hf:
        raise TinyslmError(f"{path} does not name a model_type.", "Give a model folder in the Hugging Face layout.")
    return hf


def read_card(folder: Path) -> dict[str, Any]:
    """What `tinyslm.json` says; empty for a folder that was not written here."""
    if not (folder / CARD).is_file():
        return {}
    remedy = "Restore it from a copy, or remove it: it is not needed."
    card = read_json(folder / CARD, remedy=remedy)
    if not all(isinstance(card.get(key, {}), dict) for key in ("xxh3", "training")):
        raise TinyslmError(f"{folder / CARD} is damaged.", remedy)
    return card


def origin_of(folder: Path) -> dict[str, Any]:
    """What a model that is trained from this one records of it: its name, and where its weights come from, if known."""
    training = read_card(folder).get("training", {})
    known = training if {"pulled_from", "imported_from"} & training.keys() else training.get("base", {})
    return {"name": name_of(folder), **{key: known[key] for key in ("pulled_from", "imported_from") if key in known}}


def holds_conversations(folder: Path) -> bool:
    """Whether a model was trained on conversations, as far as its files tell.

    It was not if it has no chat template, nor if its template is the one that every new tokenizer gets (`CHATML`) and
    its record tells of training on text alone.
    """
    template = read_chat_template(folder)
    if template != CHATML:
        return template is not None
    training = read_card(folder).get("training", {})
    return bool(training.get("chat_model", "bits_per_byte" not in training))


def write_card(folder: Path, training: Mapping[str, Any]) -> None:
    """Write `tinyslm.json`: the checksums of the weight files that lie in the folder, and what is known of them."""
    checksums = {path.name: checksum_file(path) for path in weight_files(folder)}
    write_json(folder / CARD, {"format": 2, "xxh3": checksums, "training": dict(training)})


def state_tensors(model: Decoder) -> dict[str, Tensor]:
    """The model's weights by name; a tied output projection is not listed twice."""
    tensors = dict(model.state_dict())
    if model.config.tied:
        tensors.pop("lm_head.weight")
        tensors.pop("lm_head.adapter.rows", None)
    return tensors


Matrix = TypeVar("Matrix", bound=Tensor | PackedTensor)


def to_outside(family: Family, config: ModelConfig, tensors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """A `Decoder`'s tensors under a family's names."""
    rest = dict(tensors)
    renamed: dict[str, Matrix] = {}
    for rule in expanded(family.rules, config.depth):
        if all(name in rest for name in rule.inside):
            renamed[rule.outside] = _joined(rule, [rest.pop(name) for name in rule.inside], config.heads)
    return {**rest, **renamed}


def to_inside(family: Family, model: Decoder, tensors: Iterable[tuple[str, Matrix]]) -> dict[str, Matrix]:
    """A folder's tensors under a `Decoder`'s names, fused ones taken apart."""
    config = model.config
    rows = {name: tensor.shape[0] for name, tensor in model.state_dict().items()}
    rules: dict[str, Rule] = {}
    for rule in expanded(family.rules, config.depth):
        rules |= {rule.outside: rule, rule.outside.removeprefix(family.prefix): rule}
    inside: dict[str, Matrix] = {}
    for name, tensor in tensors:
        known = rules.get(name)
        if known is not None and all(part in rows for part in known.inside):
            parts = _parted(known, tensor, [rows[part] for part in known.inside], config.heads)
            inside |= dict(zip(known.inside, parts, strict=True))
        elif name in rows or not name.endswith(tuple(family.ignored)):
            inside[name] = tensor
    return inside


def _joined(rule: Rule, parts: Sequence[Any], heads: int) -> Any:
    """`joined`, of packed matrices too: their codes and scales, which are never transposed, as rows."""
    if not isinstance(parts[0], PackedTensor):
        return joined(rule, parts, heads)
    rule = replace(rule, transposed=False)
    return PackedTensor(*(joined(rule, [getattr(part, kind) for part in parts], heads) for kind in ("codes", "scale")))


def _parted(rule: Rule, tensor: Any, rows: Sequence[int], heads: int) -> list[Any]:
    """`parted`, of packed matrices too."""
    if not isinstance(tensor, PackedTensor):
        return list(parted(rule, tensor, rows, heads))
    rule = replace(rule, transposed=False)
    codes, scales = (parted(rule, part, rows, heads) for part in (tensor.codes, tensor.scale))
    return [PackedTensor(*pair) for pair in zip(codes, scales, strict=True)]


def _has_own_output(folder: Path, family: Family) -> bool:
    """Whether the weights hold an output projection with other values than the token embedding."""
    outside = {rule.inside[0]: rule.outside for rule in family.rules if len(rule.inside) == 1}

    def stored(name: str) -> Tensor | None:
        theirs = outside.get(name, name)
        names = {name, theirs, theirs.removeprefix(family.prefix)}
        return next((tensor for _, tensor in named_tensors(folder, names)), None)

    output, table = stored("lm_head.weight"), stored("model.embed_tokens.weight")
    return output is not None and table is not None and not torch.equal(output, table)


def _check_size(folder: Path, config: ModelConfig) -> None:
    """Before memory is taken for a large model: its weight files could hold it (4 bits are the least for a weight)."""
    held = sum(path.stat().st_size for path in weight_files(folder))
    if config.parameters > max(LARGE, 2 * held):
        raise TinyslmError(
            f"{folder / 'config.json'} describes a model of {config.parameters:,} parameters, but there are only "
            f"{held:,} bytes of weights.",
            "Restore the model folder from its source: config.json and its weights belong together.",
        )


def _check_tensors(folder: Path, tensors: Mapping[str, Tensor | PackedTensor], expected: Mapping[str, Tensor]) -> None:
    """Every tensor that the config asks for is there, in its shape, and nothing else."""
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is not part of this architecture" for name in tensors if name not in expected]
    for name, tensor in expected.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            wrong.append(f"{name} is {list(tensors[name].shape)} instead of {list(tensor.shape)}")
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise TinyslmError(
            f"The weights in {folder} do not match its config.json: {'; '.join(wrong[:3])}{more}.",
            "Restore the model folder from its source: config.json and model.safetensors belong together.",
        )
