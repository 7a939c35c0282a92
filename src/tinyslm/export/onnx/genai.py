"""What makes an ONNX graph a model of onnxruntime-genai: `genai_config.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.export.format import Original
from tinyslm.model.config import ModelConfig
from tinyslm.tokenizer.tokenizer import Tokenizer

GRAPH = "model.onnx"
CONFIG = "genai_config.json"
USUAL_LENGTH = 4096
"""The longest text unless the caller asks for more (up to the model's context): the cache is made as long at once."""
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty")
"""What onnxruntime-genai takes from a `generation_config.json`, under the same names."""


@dataclass(frozen=True)
class DecoderEntry:
    """The entry `decoder` in that of the model."""

    head_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_key_value_heads: PositiveInt


@dataclass(frozen=True)
class ModelEntry:
    """The entry `model` of `genai_config.json`."""

    context_length: PositiveInt
    vocab_size: PositiveInt
    decoder: DecoderEntry


@dataclass(frozen=True)
class _Config:
    model: ModelEntry


def read_config(folder: Path) -> ModelEntry:
    """The model's description in a folder's `genai_config.json`; raises `TinyslmError` if it is damaged."""
    return read_json(folder / CONFIG, _Config, remedy="Export the model again.").model


def write_config(original: Original, folder: Path) -> None:
    """Write `genai_config.json`."""
    config = original.model.config
    search = {"do_sample": False, "past_present_share_buffer": True, "max_length": min(longest(config), USUAL_LENGTH)}
    content = {"model": _model(config, original.tokenizer), "search": search | _sampling(original.folder)}
    write_json(folder / CONFIG, content)


def longest(config: ModelConfig) -> int:
    """The longest sequence for which the graph computes what the model does.

    "dynamic" and "longrope" scaling change the rotary frequencies with the length of the text, which a table cannot
    follow.
    """
    return config.context if config.rope_scaling.kind == "dynamic" else config.switch_length or config.longest


def _model(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": GRAPH,
        "head_size": config.head_dim,
        "hidden_size": config.dim,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.depth,
        "num_key_value_heads": config.kv_heads,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    return {
        "type": "decoder",
        "vocab_size": config.vocab_size,
        "context_length": longest(config),
        "bos_token_id": tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id,
        "eos_token_id": list(tokenizer.stop_ids),
        "pad_token_id": tokenizer.pad_id,
        "decoder": decoder,
    }


def _sampling(folder: Path) -> dict[str, Any]:
    """The default sampling settings of the model's folder, without values that are not numbers or booleans."""
    file = folder / "generation_config.json"
    said = read_json(file) if file.is_file() else {}
    return {key: said[key] for key in SAMPLING if isinstance(said.get(key), bool | int | float)}
