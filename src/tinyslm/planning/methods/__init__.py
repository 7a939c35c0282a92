"""The methods of `finetune`, by name."""

from collections.abc import Mapping
from typing import Any

from tinyslm.core.errors import TinyslmError
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


def check_sections(name: str, given: Mapping[str, Any]) -> None:
    """Raise `TinyslmError` for settings of other methods, which this one would ignore."""
    others = {section for one in METHODS for section in METHODS[one].sections} - METHODS[name].sections
    for section in sorted(others & given.keys()):
        if given[section]:
            users = [one for one in METHODS if section in METHODS[one].sections]
            setting = f"{section}.{next(iter(given[section]))}"
            raise TinyslmError(
                f"The method {name} does not read {setting}.", f"Leave it out, or use --method {' or '.join(users)}."
            )
