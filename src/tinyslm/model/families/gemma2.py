"""Gemma 2 (Google, 2024): norms before and after attention and feed-forward, scaled by 1 + w; scaled embeddings; every
other block sees a window; attention scores and logits are soft-capped."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tinyslm.model.families.gemma3 import GEMMA3, read_scales, write_scales
from tinyslm.model.families.windows import all_but_every, window_but_every
from tinyslm.model.family import Part

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

PERIOD = 2
CAPS = {"attention_cap": ("attn_logit_softcapping", 50.0), "logit_cap": ("final_logit_softcapping", 30.0)}
"""Our setting -> Hugging Face's field, and its default."""


def _read_scales(hf: Mapping[str, Any]) -> dict[str, Any]:
    caps = {ours: hf.get(theirs, absent) or 0.0 for ours, (theirs, absent) in CAPS.items()}
    return {**read_scales(hf), **caps}


def _write_scales(config: "ModelConfig") -> dict[str, Any]:
    return {**write_scales(config), **{theirs: getattr(config, ours) or None for ours, (theirs, _) in CAPS.items()}}


GEMMA2 = replace(
    GEMMA3,
    name="gemma2",
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    fixed={**GEMMA3.fixed, "qk_norm": False},
    defaults={"tied": True, "attention_cap": 50.0, "logit_cap": 30.0},
    absent={"norm_eps": 1e-6, "tied": True, "rope_theta": 10_000.0, "kv_heads": 4, "head_dim": 256},
    constants={
        "hidden_activation": ("gelu_pytorch_tanh",),
        "hidden_act": ("gelu_pytorch_tanh",),
        "use_bidirectional_attention": (None, False),
    },
    parts=(
        window_but_every(PERIOD),
        Part(fields=("query_pre_attn_scalar", *(theirs for theirs, _ in CAPS.values())), read=_read_scales,
             write=_write_scales),
    ),
    habits=lambda dim, depth: {
        "embedding_scale": dim**0.5, "window": 4096, "window_layers": all_but_every(PERIOD, depth),
    },
)  # fmt: skip
