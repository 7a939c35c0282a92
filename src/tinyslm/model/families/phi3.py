"""Phi-3, Phi-3.5 and Phi-4-mini (Abdin et al., 2024): Llama's block with its products fused, a window where the config
asks, and LongRoPE: two sets of rotary frequencies, one for texts of up to the original context, one for longer ones."""

from dataclasses import replace

from tinyslm.model.families.llama import LLAMA
from tinyslm.model.families.windows import window_everywhere
from tinyslm.model.family import Part
from tinyslm.model.renaming import Rule

PHI3 = replace(
    LLAMA,
    name="phi3",
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    absent={**LLAMA.absent, "norm_eps": 1e-5, "rotary_share": 1.0},
    constants={"hidden_act": ("silu", "swish")},
    repeated={**LLAMA.repeated, "full_attn_mod": (1,), "interpolate_factor": (1,)},  # Phi-4-mini's; 1: no effect
    switches={"attention_bias": ("attention_bias", "output_bias")},
    # transformers reads any scaling of this family as LongRoPE, also under its older names.
    rope_kinds={"default": "none", "longrope": "longrope", "su": "longrope", "yarn": "longrope"},
    original_context=4096,
    parts=(
        window_everywhere(absent=0),
        Part(
            fields=("original_max_position_embeddings",),
            read=lambda hf: {},
            write=lambda config: {
                "original_max_position_embeddings": config.rope_scaling.original_context or config.context
            },
        ),
    ),
    rules=(
        Rule(
            "model.layers.{}.self_attn.qkv_proj.weight",
            [f"model.layers.{{}}.self_attn.{part}_proj.weight" for part in "qkv"],
        ),
        Rule(
            "model.layers.{}.mlp.gate_up_proj.weight",
            [f"model.layers.{{}}.mlp.{part}_proj.weight" for part in ("gate", "up")],
        ),
    ),
)
