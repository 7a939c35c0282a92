"""Mistral (Jiang et al., 2023): Llama's block, where each token may see only a window of the past."""

from dataclasses import replace

from tinyslm.model.families.llama import LLAMA
from tinyslm.model.families.windows import window_everywhere

MISTRAL = replace(
    LLAMA,
    name="mistral",
    model_type="mistral",
    architecture="MistralForCausalLM",
    absent={**LLAMA.absent, "kv_heads": 8},
    constants={"hidden_act": ("silu", "swish")},
    switches={},
    parts=(window_everywhere(absent=4096),),
)
