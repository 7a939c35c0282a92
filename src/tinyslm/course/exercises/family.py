"""Exercise: a model family, added by a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tinyslm.core.config import build_config
from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.course.exercises.originals import IDS, max_difference
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder, new_model
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import load_model, save_model

PUBLISHED = {
    "architectures": ["Starcoder2ForCausalLM"],
    "model_type": "starcoder2",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "hidden_act": "gelu_pytorch_tanh",
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "use_bias": True,
    "tie_word_embeddings": True,
    "rope_theta": 10_000.0,
}
"""A config.json of this family, as transformers reads it."""
EXPECTED = {
    "norm": "layer",
    "norm_eps": 1e-5,
    "feed_forward": "gelu_tanh",
    "positions": "rope",
    "attention_bias": True,
    "output_bias": True,
    "ffn_bias": True,
    "head_bias": False,
    "tied": True,
    "kv_heads": 2,
    "ffn_dim": 128,
}
LAYER = [
    f"{part}.{kind}"
    for part in (
        *(f"self_attn.{name}_proj" for name in "qkvo"),
        "mlp.c_fc", "mlp.c_proj", "input_layernorm", "post_attention_layernorm",
    )
    for kind in ("weight", "bias")
]  # fmt: skip
TENSORS = {f"model.layers.{layer}.{name}" for layer in (0, 1) for name in LAYER}
TENSORS |= {"model.embed_tokens.weight", "model.norm.weight", "model.norm.bias"}


def _config() -> ModelConfig:
    return build_config(ModelConfig, FAMILIES["starcoder2"].config_from_hf(PUBLISHED), origin="config.json")


def _model() -> Decoder:
    torch.manual_seed(0)
    model = new_model(_config()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    return model


def _saved() -> Path:
    folder = Path("model")
    if not folder.exists():
        save_model(_model(), folder)
    return folder


def _read(_module: Any) -> str:
    if "starcoder2" not in FAMILIES:
        return 'The file adds no family "starcoder2".'
    config = _config()
    wrong = [f"{name} = {getattr(config, name)!r}, not {value!r}" for name, value in EXPECTED.items()
             if getattr(config, name) != value]  # fmt: skip
    return f"From its config.json, the model has {'; '.join(wrong)}." if wrong else ""


def _without_bias(_module: Any) -> str:
    found = FAMILIES["starcoder2"].config_from_hf({**PUBLISHED, "use_bias": False})
    on = [name for name in ("attention_bias", "output_bias", "ffn_bias") if found.get(name)]
    return f'With "use_bias": false in the config.json, {" and ".join(on)} should be false.' if on else ""


def _written(_module: Any) -> str:
    found = FAMILIES["starcoder2"].config_to_hf(_config())
    wrong = [f'"{name}": {found.get(name)!r}, not {value!r}' for name, value in PUBLISHED.items()
             if name != "rope_theta" and found.get(name) != value]  # fmt: skip
    return f"Written again, the config.json has {'; '.join(wrong)}." if wrong else ""


def _names(_module: Any) -> str:
    found = set(load_file(_saved() / "model.safetensors"))
    missing, odd = sorted(TENSORS - found), sorted(found - TENSORS)
    if missing:
        return f"The folder's weights have no {missing[0]}" + (f"; they have {odd[0]} instead." if odd else ".")
    return f"The folder's weights have {odd[0]}, which transformers does not know." if odd else ""


def _same(_module: Any) -> str:
    with torch.no_grad():
        expected, found = _model()(IDS), load_model(_saved())(IDS)
    return "" if max_difference(found, expected) < 1e-5 else "Written and read again, the model gives different logits."


def _new(_module: Any) -> str:
    shape = {"family": "starcoder2", "dim": 64, "depth": 2, "heads": 2}
    config = build_config(ModelConfig, shape, origin="a new model")
    wrong = [name for name in ("norm", "feed_forward", "attention_bias", "ffn_bias", "tied", "norm_eps")
             if getattr(config, name) != EXPECTED[name]]  # fmt: skip
    return f"A new model of this family has another {' and '.join(wrong)} than StarCoder2." if wrong else ""


FAMILY = Exercise(
    title="A model family",
    about="Describe StarCoder2 by tables, so that its model folders are read, trained and written.",
    task=(
        "A family describes an architecture by tables: settings that are fixed, the names that they have in a "
        "config.json, and the names of tensors. The model itself is the same class for all.",
        "Describe StarCoder2 (Lozhkov et al., 2024). Here it is Llama with four changes: LayerNorm in place of "
        "RMSNorm; a plain feed-forward with the tanh form of GELU; biases in all products of a block, which "
        "use_bias switches on and off; tied embeddings. (Published models also have a sliding window of 4,096 "
        "tokens, which this exercise leaves out.) Its config.json has no head_dim; it calls the norm's epsilon "
        "norm_epsilon (1e-5), the activation hidden_act is gelu_pytorch_tanh. The two matrices of its feed-forward "
        "are called mlp.c_fc and mlp.c_proj, here mlp.up_proj and mlp.down_proj.",
        "Family, in tinyslm/model/family.py, explains its fields; StableLM and Phi in model/families are good "
        "examples.",
    ),
    hints=(
        "fixed has norm, feed_forward, positions and qk_norm; defaults has what a new model gets: tied, norm_eps, "
        "biases.",
        'switches={"use_bias": ("attention_bias", "output_bias", "ffn_bias")} describes the biases.',
        "same_layer_rules, in model/renaming.py, takes names outside and inside; {} is the number of the layer.",
        "absent says what transformers assumes where a config.json does not say: tied is True, kv_heads 2.",
    ),
    start="exercises/family.py",
    checks=(
        Check("A published config.json is read.", _read),
        Check("use_bias switches the biases off.", _without_bias),
        Check("The config.json is written as it was.", _written),
        Check("The tensors have StarCoder2's names.", _names),
        Check("A model that is written and read again gives the same logits.", _same),
        Check("New models of the family have its settings.", _new),
    ),
    then=("tinyslm train TEXT --model.family starcoder2 --plugin FILE --minutes 5 --out runs/starcoder2",),
)
