"""Qwen3 (Qwen team, 2025): Llama's block with a norm on the queries and keys. The default for new models."""

from dataclasses import replace

from tinyslm.model.families.llama import LLAMA

QWEN3 = replace(
    LLAMA,
    name="qwen3",
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    fixed={**LLAMA.fixed, "qk_norm": True},
    defaults={"tied": True},
    constants={
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "use_sliding_window": (False,),
        "sliding_window": (None,),
        "max_window_layers": (28, *range(1000)),
    },
)
