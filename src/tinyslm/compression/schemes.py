"""Schemes: how many bits each matrix of a model gets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from tinyslm.core.registry import Registry
from tinyslm.model.decoder import Decoder
from tinyslm.model.packed import GROUPS, Layout


@dataclass(frozen=True)
class Scheme:
    """Bits of most matrices, and of those on which a model depends most."""

    bits: int
    sensitive_bits: int


SCHEMES: Registry[Scheme] = Registry("scheme")
SCHEMES.add("int8", Scheme(8, 8))
SCHEMES.add("int4", Scheme(4, 4))
SCHEMES.add("int4-mixed", Scheme(4, 8))

SENSITIVE = ("embed_tokens", "lm_head", "v_proj")
"""Rounded alone to 4 bits, these do most harm for their size (SmolLM2-135M: values 0.069 nats of KL with 2.5 % of the
weights, the table 0.11 with 21 %; queries 0.014 with 7 %)."""


@dataclass(frozen=True)
class Plan:
    """The layout of every matrix by its weight's name, and what was not done as asked, in sentences."""

    layouts: dict[str, Layout]
    notes: Sequence[str] = field(default=())


def plan(model: Decoder, scheme: str, group_size: int) -> Plan:
    """Which matrix gets which layout.

    In 4 bits, a matrix whose width is no multiple of `group_size` gets the largest smaller group that fits, else 8
    bits. Learned positions get 8 bits: they are few. Norms and biases stay as they are.
    """
    wanted = SCHEMES[scheme]
    layouts: dict[str, Layout] = {}
    odd: dict[str, int] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Embedding) or (name == "lm_head" and model.config.tied):
            continue
        bits = wanted.sensitive_bits if name.endswith(SENSITIVE) else wanted.bits
        layout = (
            Layout(bits=8) if name.endswith("embed_positions") else fitting(module.weight.shape[1], bits, group_size)
        )
        layouts[f"{name}.weight"] = layout
        if bits == 4 and layout.group_size != group_size:
            odd[re.sub(r"\.\d+\.", ".*.", name)] = module.weight.shape[1]
    return Plan(layouts, [_note(name, width, fitting(width, 4, group_size), group_size) for name, width in odd.items()])


def fitting(width: int, bits: int, group_size: int) -> Layout:
    """The layout for rows of this width that is nearest to what is asked for."""
    if bits == 4:
        for size in GROUPS:
            if size <= group_size and width % size == 0:
                return Layout.model_validate({"bits": 4, "group_size": size})
    return Layout(bits=8)


def _note(name: str, width: int, layout: Layout, group_size: int) -> str:
    if name.endswith("embed_positions"):
        return f"{name} has 8 bits: learned positions always have."
    got = f"groups of {layout.group_size}" if layout.bits == 4 else "8 bits"
    return f"{name} has {got}: its width of {width} is no multiple of {group_size}."
