"""Model folders: reading and writing models in the Hugging Face layout.

A folder holds `config.json`, `model.safetensors`, `generation_config.json` and, beside it, the tokenizer's files.
Folders written here also hold `tinyslm.json`: the checksum of the weights, and what is known of their training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, read_json, sha256_file, write_json
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES, family_of
from tinyslm.tokenizer.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
CARD = "tinyslm.json"


def save_model(
    model: Decoder, folder: str | Path, tokenizer: Tokenizer | None = None, training: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder (whole or not at all), with its tokenizer and a record of its training if given."""
    config = model.config
    family = FAMILIES[config.family]
    with atomic_folder(Path(folder)) as temporary:
        tensors = family.to_outside(state_tensors(model), config.depth)
        write_tensors(temporary / WEIGHTS, tensors)
        special = {}
        if tokenizer is not None:
            tokenizer.save(temporary, context=config.context)
            special = {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
        dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
        # No bos: nothing was put before the documents in training.
        fields = {**family.config_to_hf(config), "dtype": dtype, "bos_token_id": None, "eos_token_id": None}
        write_json(temporary / "config.json", {**fields, **special})
        stop = {"eos_token_id": list(tokenizer.stop_ids), "pad_token_id": tokenizer.pad_id} if tokenizer else {}
        write_json(temporary / "generation_config.json", stop)
        checksum = {WEIGHTS: sha256_file(temporary / WEIGHTS)}
        write_json(temporary / CARD, {"format": 1, "sha256": checksum, "training": dict(training or {})})


def load_model(
    folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Decoder:
    """Read a model folder, written here or by transformers; the model is in evaluation mode.

    Raises `TinyslmError` when files are missing or damaged, when a tensor is missing, left over or of another shape,
    and when the configuration asks for something that is not implemented.
    """
    folder = Path(folder)
    config = read_model_config(folder)
    with torch.device("meta"):
        model = Decoder(config)
    expected = state_tensors(model)
    tensors = FAMILIES[config.family].to_inside(_read_weights(folder), config.depth)
    if config.tied:
        tensors.pop("lm_head.weight", None)
    _check_tensors(folder, tensors, expected)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, strict=False, assign=True)
    if config.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.to(device).eval()


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder."""
    return Tokenizer.load(Path(folder))


def find_model(path: Path) -> Path:
    """The model folder that `path` means: itself, or the `model` folder of a finished run."""
    inside = path / "model"
    if (path / WEIGHTS).is_file():
        return path
    if (inside / "config.json").is_file():
        return inside
    if (path / "checkpoints").is_dir():
        raise TinyslmError(
            f"The run in {path} has not finished: it has no model yet.", f"Go on with it: tinyslm train --resume {path}"
        )
    return path


def read_model_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder, from its `config.json`."""
    if not folder.is_dir():
        raise TinyslmError(
            f"There is no model folder {folder}.", "Give a folder that holds config.json and model.safetensors."
        )
    path = folder / "config.json"
    if not path.is_file():
        raise TinyslmError(
            f"{folder} is no model folder: it has no config.json.", "Give a folder in the Hugging Face layout."
        )
    hf = read_json(path)
    if not isinstance(hf, dict) or "model_type" not in hf:
        raise TinyslmError(f"{path} names no model_type.", "Give a model folder in the Hugging Face layout.")
    settings = family_of(str(hf["model_type"])).config_from_hf(hf)
    return build_config(ModelConfig, settings, origin=str(path))


def read_card(folder: Path) -> dict[str, Any]:
    """What `tinyslm.json` says; empty for a folder that was not written here."""
    card: dict[str, Any] = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    return card


def state_tensors(model: Decoder) -> dict[str, Tensor]:
    """The model's weights by name; a tied output projection is not listed twice."""
    tensors = dict(model.state_dict())
    if model.config.tied:
        tensors.pop("lm_head.weight")
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; when the disk is full, `OSError` as for any other file."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    remedy = "Restore the file from a copy, or export or train the model again."
    if not path.is_file():
        raise TinyslmError(f"There is no {WEIGHTS} in {folder}.", "Give a complete model folder.")
    recorded = read_card(folder).get("sha256", {}).get(WEIGHTS)
    if recorded is not None and sha256_file(path) != recorded:
        raise TinyslmError(f"{path} is damaged: its checksum is not the one recorded in {CARD}.", remedy)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except (SafetensorError, OSError, ValueError) as error:
        raise TinyslmError(f"{path} is damaged: {error}.", remedy) from None


def _check_tensors(folder: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
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
