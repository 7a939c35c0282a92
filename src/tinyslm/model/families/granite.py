"""Granite 3 (IBM, 2024): Llama's block with multipliers on embeddings, attention, residuals and logits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tinyslm.model.families.llama import LLAMA
from tinyslm.model.family import Part


def _read_scale(hf: Mapping[str, Any]) -> dict[str, Any]:
    head_dim = hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]
    scale = hf.get("attention_multiplier", 1.0)
    return {"attention_scale": 0.0 if scale == head_dim**-0.5 else scale}


GRANITE = replace(
    LLAMA,
    name="granite",
    model_type="granite",
    architecture="GraniteForCausalLM",
    keys={
        **LLAMA.keys,
        "embedding_scale": "embedding_multiplier",
        "residual_scale": "residual_multiplier",
        "logit_divisor": "logits_scaling",
    },
    constants={"hidden_act": ("silu", "swish")},
    parts=(
        Part(
            fields=("attention_multiplier",),
            read=_read_scale,
            write=lambda config: {"attention_multiplier": config.query_scale},
        ),
    ),
)
