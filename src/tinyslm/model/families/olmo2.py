"""OLMo 2 (Allen Institute for AI, 2024): norms after attention and feed-forward, and over all queries and keys."""

from dataclasses import replace

from tinyslm.model.families.llama import LLAMA

OLMO2 = replace(
    LLAMA,
    name="olmo2",
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    fixed={**LLAMA.fixed, "qk_norm": True, "qk_norm_over": "all", "norm_place": "after"},
    absent={**LLAMA.absent, "norm_eps": 1e-5},
    constants={"hidden_act": ("silu", "swish")},
    switches={"attention_bias": ("attention_bias", "output_bias")},
)
