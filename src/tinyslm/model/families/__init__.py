"""The architectures that a model folder can have, by name."""

from tinyslm.core.errors import TinyslmError
from tinyslm.core.registry import Registry
from tinyslm.model.families.gemma2 import GEMMA2
from tinyslm.model.families.gemma3 import GEMMA3
from tinyslm.model.families.gpt2 import GPT2
from tinyslm.model.families.gpt_neo import GPT_NEO
from tinyslm.model.families.gpt_neox import GPT_NEOX
from tinyslm.model.families.granite import GRANITE
from tinyslm.model.families.granitemoehybrid import GRANITE_MOE_HYBRID
from tinyslm.model.families.llama import LLAMA
from tinyslm.model.families.mistral import MISTRAL
from tinyslm.model.families.olmo2 import OLMO2
from tinyslm.model.families.olmo3 import OLMO3
from tinyslm.model.families.opt import OPT
from tinyslm.model.families.phi import PHI
from tinyslm.model.families.phi3 import PHI3
from tinyslm.model.families.qwen2 import QWEN2
from tinyslm.model.families.qwen3 import QWEN3
from tinyslm.model.families.smollm3 import SMOLLM3
from tinyslm.model.families.stablelm import STABLELM
from tinyslm.model.families.tinyslm import TINYSLM
from tinyslm.model.family import Family

FAMILIES: Registry[Family] = Registry("family")
for _family in (
    QWEN3, LLAMA, MISTRAL, QWEN2, SMOLLM3, GRANITE, GRANITE_MOE_HYBRID, OLMO2, OLMO3, GEMMA2, GEMMA3, PHI, PHI3,
    STABLELM, GPT_NEOX, GPT_NEO, OPT, GPT2, TINYSLM,
):  # fmt: skip
    FAMILIES.add(_family.name, _family)


def family_of(model_type: str) -> Family:
    """The family that reads folders of a Hugging Face `model_type` (the first one registered for it).

    Raises `TinyslmError` with the supported ones. No similar name is suggested: it would be another architecture.
    """
    by_type: dict[str, Family] = {}
    for name in FAMILIES:
        by_type.setdefault(FAMILIES[name].model_type, FAMILIES[name])
    if model_type not in by_type:
        raise TinyslmError(
            f'The architecture "{model_type[:40]}" (model_type in config.json) is not supported.',
            f"Use a model of a supported architecture: {', '.join(sorted(by_type))}.",
        )
    return by_type[model_type]
