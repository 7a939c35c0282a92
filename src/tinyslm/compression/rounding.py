"""Codes and scales of a matrix: rounding to nearest, with the scale of the least error.

Shape legend: o rows (outputs), i columns (inputs), n groups of a row, w values of a group.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tinyslm.model.packed import Layout, PackedTensor, pack

RANGE = {4: (-8, 7), 8: (-127, 127)}
"""Lowest and highest code, by bits."""

SHARES = {4: torch.linspace(0.7, 1.1, 12).tolist(), 8: torch.linspace(0.8, 1.0, 5).tolist()}
"""Shares of the range that the largest value of a group may have; above 1 it is clipped, which suits the others."""


Scales = Callable[[Tensor, int, Tensor | None], Tensor]
"""Chooses scales `[...]` for groups of values `[..., w]`, bits per value, and error weights `[n, w]`."""

CHUNK = 1 << 18
"""Values rounded at a time: they fit the processor's cache, which is several times as fast."""


def round_to_nearest(
    weight_oi: Tensor, layout: Layout, importance_i: Tensor | None = None, scales: Scales | None = None
) -> PackedTensor:
    """The packed matrix whose codes are nearest to the weights; `scales` (or `best_scales`) chooses the scales."""
    groups_onw = grouped(weight_oi, layout)
    importance_nw = None if importance_i is None else importance_i.view(groups_onw.shape[1:])
    codes, found = [], []
    for part_onw in groups_onw.split(max(1, CHUNK // weight_oi.shape[1])):
        values_onw = part_onw.float()
        found.append((scales or best_scales)(values_onw, layout.bits, importance_nw))
        codes.append(nearest(values_onw, found[-1].float().unsqueeze(-1), layout.bits).flatten(1).to(torch.int8))
    return pack(torch.cat(codes), stored_shape(torch.cat(found), layout), layout.bits)


def plain_scales(values: Tensor, bits: int, importance: Tensor | None = None) -> Tensor:  # noqa: ARG001
    """The bf16 scales that map each group's value of largest magnitude to the lowest code, as in llama.cpp's Q4_0."""
    peak = values.gather(-1, values.abs().argmax(-1, keepdim=True))
    return _usable(peak / RANGE[bits][0]).squeeze(-1).bfloat16()


def best_scales(values: Tensor, bits: int, importance: Tensor | None = None) -> Tensor:
    """The bf16 scale of each group, [..., w] to [...], with the least squared error of several candidates.

    The candidates are `SHARES` of the scale that maps the value of largest magnitude to the lowest code (the scale may
    be negative), each then fitted to its own codes. importance: weights of the squared errors, [w] or [n, w].
    """
    lowest = RANGE[bits][0]
    peak = values.gather(-1, values.abs().argmax(-1, keepdim=True))
    best = torch.ones_like(peak)
    least = torch.full_like(peak, torch.inf)
    weighted = values if importance is None else values * importance
    for share in SHARES[bits]:
        scale = _usable(peak / lowest * share)
        codes = nearest(values, scale, bits)
        squares = codes * codes if importance is None else codes * codes * importance
        fitted = (codes * weighted).sum(-1, keepdim=True) / squares.sum(-1, keepdim=True).clamp_min(1e-12)
        scale = _usable(fitted)
        miss = (nearest(values, scale, bits) * scale - values).square_()
        error = (miss if importance is None else miss.mul_(importance)).sum(-1, keepdim=True)
        better = error < least
        least, best = torch.where(better, error, least), torch.where(better, scale, best)
    return best.squeeze(-1).bfloat16()


def nearest(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The codes, as floats, that are nearest to the values."""
    codes: Tensor = (values / scale).round_().clamp_(*RANGE[bits])
    return codes


def grouped(weight_oi: Tensor, layout: Layout) -> Tensor:
    """[o, i] as [o, n, w]; a row is one group where the layout has none."""
    groups_onw: Tensor = weight_oi.unflatten(1, (-1, layout.group_size or weight_oi.shape[1]))
    return groups_onw


def stored_shape(scale_on: Tensor, layout: Layout) -> Tensor:
    """Scales [o, n] in the shape of a packed matrix's: [o] where a row has one scale."""
    return (scale_on if layout.group_size else scale_on.squeeze(1)).contiguous()


def _usable(scale: Tensor) -> Tensor:
    """The scale rounded to bf16; 1 instead of 0, where all values are 0."""
    rounded = scale.bfloat16().float()
    return torch.where(rounded == 0, torch.ones_like(rounded), rounded)
