"""The methods of `finetune`, by name."""

from tinyslm.core.registry import Registry
from tinyslm.planning.methods.distill import DISTILL
from tinyslm.planning.methods.dpo import DPO
from tinyslm.planning.methods.grpo import GRPO
from tinyslm.planning.methods.method import Method
from tinyslm.planning.methods.rejection import REJECTION
from tinyslm.planning.methods.sft import SFT

METHODS: Registry[Method] = Registry("method")
METHODS.add("sft", SFT)
METHODS.add("dpo", DPO)
METHODS.add("grpo", GRPO)
METHODS.add("rejection", REJECTION)
METHODS.add("distill", DISTILL)
