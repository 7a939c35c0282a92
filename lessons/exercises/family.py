"""A plugin that adds a family: StarCoder2, described as Llama with other names."""

from dataclasses import replace

from tinyslm.model.families import FAMILIES
from tinyslm.model.families.llama import LLAMA

STARCODER2 = replace(LLAMA, name="starcoder2", model_type="starcoder2", architecture="Starcoder2ForCausalLM")

FAMILIES.add("starcoder2", STARCODER2)
