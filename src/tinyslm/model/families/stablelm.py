"""StableLM 3B and 2-1.6B (Stability AI, 2023): Llama's block with LayerNorm, and a quarter of each head turned."""

from dataclasses import replace

from tinyslm.model.families.llama import LLAMA

STABLELM = replace(
    LLAMA,
    name="stablelm",
    model_type="stablelm",
    architecture="StableLmForCausalLM",
    fixed={"norm": "layer", "feed_forward": "swiglu", "positions": "rope", "qk_norm": False},
    defaults={"tied": False, "norm_eps": 1e-5, "rotary_share": 0.25},
    keys={
        **{ours: theirs for ours, theirs in LLAMA.keys.items() if ours != "head_dim"},
        "norm_eps": "layer_norm_eps",
    },
    absent={
        "norm_eps": 1e-5,
        "tied": False,
        "rope_theta": 10_000.0,
        "rotary_share": 0.25,
        "kv_heads": 32,
        "residual": "serial",
    },
    constants={"hidden_act": ("silu", "swish"), "qk_layernorm": (False,)},  # true only in models of 12B
    choices={"residual": ("use_parallel_residual", {False: "serial", True: "parallel_one_norm"})},
    switches={"use_qkv_bias": ("attention_bias",)},
)
