"""Granite 4 without Mamba layers and experts (IBM, 2025: granite-4.0-350m and 1b): Granite 3's block, with its gate and
up products in one matrix, and with rotary positions in all blocks or in none."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.model.families.granite import GRANITE
from tinyslm.model.families.windows import FULL
from tinyslm.model.family import Part
from tinyslm.model.renaming import Rule, same_layer_rules

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

UNUSED = (
    "mamba_chunk_size", "mamba_conv_bias", "mamba_d_conv", "mamba_d_head", "mamba_d_state", "mamba_expand",
    "mamba_n_groups", "mamba_n_heads", "mamba_proj_bias", "time_step_limit",
    "num_experts_per_tok", "output_router_logits", "router_aux_loss_coef", "intermediate_size",
)  # fmt: skip
"""Settings of Mamba layers and of experts (`intermediate_size` is the width of an expert)."""


def _read_kinds(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse experts and Mamba layers, which transformers takes a model to have if these fields are missing."""
    experts, kinds = hf.get("num_local_experts", 8), hf.get("layer_types") or hf.get("layers_block_type")
    if experts != 0:
        raise _refusal(f"has {experts} experts in each layer (num_local_experts)")
    if not isinstance(kinds, list) or len(kinds) != hf["num_hidden_layers"] or set(kinds) - {"attention", FULL}:
        raise _refusal(f"has layers other than attention (layer_types = {kinds!r})")
    return {}


def _refusal(what: str) -> TinyslmError:
    return TinyslmError(
        f"This granitemoehybrid model {what}.",
        "Use one of Granite 4's dense models, which have no experts and only attention layers.",
    )


def _read_positions(hf: Mapping[str, Any]) -> dict[str, Any]:
    rotated = hf.get("position_embedding_type") == "rope"
    return {"unrotated_layers": () if rotated else tuple(range(hf["num_hidden_layers"]))}


def _write_positions(config: "ModelConfig") -> dict[str, Any]:
    return {"position_embedding_type": None if config.unrotated_layers else "rope"}


GRANITE_MOE_HYBRID = replace(
    GRANITE,
    name="granitemoehybrid",
    model_type="granitemoehybrid",
    architecture="GraniteMoeHybridForCausalLM",
    keys={**GRANITE.keys, "ffn_dim": "shared_intermediate_size"},
    absent={**GRANITE.absent, "ffn_dim": 1024},
    constants={
        **GRANITE.constants,
        "position_embedding_type": ("rope", "nope", None),
        "normalization_function": ("rmsnorm",),
        "init_method": ("mup",),
    },
    switches={"attention_bias": ("attention_bias", "output_bias")},
    parts=(
        *GRANITE.parts,
        Part(
            fields=("num_local_experts", "layer_types", "layers_block_type", *UNUSED),
            read=_read_kinds,
            write=lambda config: {
                "num_local_experts": 0,
                "num_experts_per_tok": 0,
                "intermediate_size": config.ffn_dim,
                "layer_types": [FULL] * config.depth,
                "mamba_n_heads": 1,  # transformers wants a divisor of twice the width; its default is 128
            },
        ),
        Part(fields=("position_embedding_type",), read=_read_positions, write=_write_positions),
    ),
    rules=(
        Rule(
            "model.layers.{}.shared_mlp.input_linear.weight",
            [f"model.layers.{{}}.mlp.{part}_proj.weight" for part in ("gate", "up")],
        ),
        *same_layer_rules(
            {"model.layers.{}.shared_mlp.output_linear": "model.layers.{}.mlp.down_proj"}, kinds=("weight",)
        ),
    ),
)
