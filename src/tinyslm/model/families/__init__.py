"""The architectures that a model folder can have, by name."""

from tinyslm.core.registry import Registry
from tinyslm.model.families.gpt2 import GPT2
from tinyslm.model.families.llama import LLAMA
from tinyslm.model.families.qwen3 import QWEN3
from tinyslm.model.families.tinyslm import TINYSLM
from tinyslm.model.family import Family

FAMILIES: Registry[Family] = Registry("family")
for _family in (QWEN3, LLAMA, GPT2, TINYSLM):
    FAMILIES.add(_family.name, _family)


def family_of(model_type: str) -> Family:
    """The family that reads folders of a Hugging Face `model_type` (the first one registered for it)."""
    by_type: Registry[Family] = Registry("model_type in config.json")
    for name in FAMILIES:
        if FAMILIES[name].model_type not in by_type:
            by_type.add(FAMILIES[name].model_type, FAMILIES[name])
    return by_type[model_type]
