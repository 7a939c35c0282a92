"""Qwen2 and Qwen2.5 (Qwen team, 2024): Llama's block with biases in the query, key and value products."""

from dataclasses import replace

from tinyslm.model.families.llama import LLAMA
from tinyslm.model.families.windows import WINDOW_IN_UPPER_LAYERS

QWEN2 = replace(
    LLAMA,
    name="qwen2",
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    fixed={**LLAMA.fixed, "attention_bias": True},
    absent={**LLAMA.absent, "kv_heads": 32},
    constants={"hidden_act": ("silu", "swish")},
    switches={},
    parts=(WINDOW_IN_UPPER_LAYERS,),
)
