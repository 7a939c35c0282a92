"""Schemes: how many bits each matrix of a model gets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from tinyslm.core.registry import Registry
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES
from tinyslm.model.packed import GROUPS, Layout
from tinyslm.model.renaming import expanded


@dataclass(frozen=True)
class Scheme:
    """Bits of most matrices, and of the most sensitive ones."""

    bits: int
    sensitive_bits: int


SCHEMES: Registry[Scheme] = Registry("scheme")
SCHEMES.add("int8", Scheme(8, 8))
SCHEMES.add("int4", Scheme(4, 4))
SCHEMES.add("int4-mixed", Scheme(4, 8))

SENSITIVE = ("lm_head", "v_proj")
"""Rounded alone to 4 bits, these do most harm for their size (SmolLM2-135M: values 0.069 nats of KL with 2.5 % of the
weights; queries 0.014 with 7 %)."""


@dataclass(frozen=True)
class Plan:
    """The layout of every matrix by its weight's name, and what could not be done as asked, in sentences."""

    layouts: dict[str, Layout]
    notes: Sequence[str] = field(default=())


def plan(model: Decoder, scheme: str, group_size: int) -> Plan:
    """Which matrix gets which layout: all linear layers, except an output projection that is the token table.

    In 4 bits, a matrix whose width is not a multiple of `group_size` gets the largest smaller group that fits, or else
    8 bits. Matrices that the family's folders store as one all get the bits of the most sensitive. Tables, norms and
    biases are not quantized.
    """
    wanted = SCHEMES[scheme]
    widths = {
        f"{name}.weight": module.in_features
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not (name == "lm_head" and model.config.tied)
    }
    bits = {name: _bits(name, wanted) for name in widths}
    rules = list(expanded(FAMILIES[model.config.family].rules, model.config.depth))
    for rule in rules:
        fused = [name for name in rule.inside if name in bits]
        bits |= dict.fromkeys(fused, max((bits[name] for name in fused), default=0))
    layouts = {name: fitting(width, bits[name], group_size) for name, width in widths.items()}
    unfit = {
        re.sub(r"\.\d+\.", ".*.", name.removesuffix(".weight")): widths[name]
        for name, layout in layouts.items()
        if bits[name] == 4 and layout.group_size != group_size
    }
    notes = [_note(name, width, fitting(width, 4, group_size), group_size) for name, width in unfit.items()]
    if any(rule.transposed for rule in rules):
        notes.append("transformers does not read quantized layers of this family, which it stores transposed.")
    return Plan(layouts, notes)


def fitting(width: int, bits: int, group_size: int) -> Layout:
    """The layout for rows of this width that is nearest to what is asked for."""
    sizes = [size for size in GROUPS if size <= group_size and width % size == 0]
    return Layout(4, sizes[0]) if bits == 4 and sizes else Layout(8)


def _bits(name: str, scheme: Scheme) -> int:
    return scheme.sensitive_bits if name.removesuffix(".weight").endswith(SENSITIVE) else scheme.bits


def _note(name: str, width: int, layout: Layout, group_size: int) -> str:
    got = f"groups of {layout.group_size}" if layout.bits == 4 else "8 bits"
    return f"{name} has {got}: its width of {width} is not a multiple of {group_size}."
