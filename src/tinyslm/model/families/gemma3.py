"""Gemma 3's text model (Google, 2025): norms around everything, scaled by 1 + w; scaled embeddings; local blocks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tinyslm.model.families.llama import LLAMA
from tinyslm.model.families.windows import all_but_every, layer_types, sliding_layers
from tinyslm.model.family import Part

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

PATTERN = 6
"""Every sixth block sees everything, the others a window."""


def _habits(dim: int, depth: int) -> dict[str, Any]:
    """Scaled embeddings, and windows in all blocks but every sixth, or the last of fewer."""
    layers = all_but_every(min(PATTERN, depth), depth)
    return {"embedding_scale": dim**0.5, "window": 512 if layers else 0, "window_layers": layers}


def _read_windows(hf: Mapping[str, Any]) -> dict[str, Any]:
    depth, types = hf["num_hidden_layers"], hf.get("layer_types")
    pattern = hf.get("sliding_window_pattern", PATTERN)  # transformers overwrites what _sliding_window_pattern says
    layers = all_but_every(pattern, depth) if types is None else sliding_layers(types, depth)
    window = hf.get("sliding_window", 4096) if layers else 0
    return {"window": window or 0, "window_layers": layers if window else ()}


def read_scales(hf: Mapping[str, Any]) -> dict[str, Any]:
    scalar = hf.get("query_pre_attn_scalar", 256)
    own = scalar == hf.get("head_dim", 256)
    return {
        "embedding_scale": hf["hidden_size"] ** 0.5,
        "attention_scale": 0.0 if own else scalar**-0.5,
        "logit_cap": hf.get("final_logit_softcapping") or 0.0,
    }


def write_scales(config: "ModelConfig") -> dict[str, Any]:
    scalar = config.query_scale**-2
    whole = abs(scalar - round(scalar)) < 1e-6
    return {
        "query_pre_attn_scalar": round(scalar) if whole else scalar,
        "final_logit_softcapping": config.logit_cap or None,
    }


GEMMA3 = replace(
    LLAMA,
    name="gemma3",
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    fixed={**LLAMA.fixed, "qk_norm": True, "norm_offset": True, "norm_place": "both", "feed_forward": "geglu"},
    defaults={"tied": True, "rope_theta": 1_000_000.0, "local_rope_theta": 10_000.0},
    absent={
        "norm_eps": 1e-6,
        "tied": True,
        "rope_theta": 1_000_000.0,
        "local_rope_theta": 10_000.0,
        "kv_heads": 4,
        "head_dim": 256,
    },
    constants={
        "hidden_activation": ("gelu_pytorch_tanh",),
        "hidden_act": ("gelu_pytorch_tanh",),
        "attn_logit_softcapping": (None,),  # the reference implementation reads it and does not use it
        "use_bidirectional_attention": (False, None),
    },
    repeated={},
    switches={"attention_bias": ("attention_bias", "output_bias")},
    parts=(
        Part(
            fields=("sliding_window", "layer_types", "sliding_window_pattern"),
            read=_read_windows,
            write=lambda config: {"sliding_window": config.window or 4096, "layer_types": layer_types(config)},
        ),
        Part(fields=("query_pre_attn_scalar", "final_logit_softcapping"), read=read_scales, write=write_scales),
    ),
    habits=_habits,
)
