"""Matrices in the order in which linear.h reads them: tiles of sixteen outputs.

Shape legend: o outputs, i inputs, t tiles of 16 outputs, n groups of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm.inference.native.memory import Memory
from tinyslm.model.lora import merged_weight
from tinyslm.model.packed import PackedLinear

TILE = 16
AT_ONCE = 4096
"""Rows that are brought into the layout together: a multiple of 16."""


class Format(IntEnum):
    """`Format` of linear.h."""

    FP32 = 0
    BF16 = 1
    INT8 = 2
    INT4 = 3


@dataclass(frozen=True)
class Tiles:
    """`Matrix` of linear.h. inputs: with padding; outputs: without; scales: bf16 `[t, n, 16]`; bias: fp32 `[16 t]`."""

    format: Format
    inputs: int
    outputs: int
    group: int
    codes: Tensor
    scales: Tensor | None
    bias: Tensor | None


def tiles(linear: Any, precision: Format, memory: Memory) -> Tiles:
    """A linear layer, packed or not; `precision` (FP32 or BF16) is for one that is not, or that has an adapter."""
    bias = None
    if linear.bias is not None:
        bias = memory.copy(_padded(linear.bias.detach().float()[:, None], 1)[:, 0])
    if not isinstance(linear, PackedLinear) or linear.adapter is not None:
        weight_oi = merged_weight(linear)
        codes = _laid_out(weight_oi, _fp32 if precision == Format.FP32 else _bf16_pairs, memory)
        inputs = codes.shape[1] * (1 if precision == Format.FP32 else 2)
        return Tiles(precision, inputs, len(weight_oi), 0, codes, None, bias)
    scale_on = _padded(linear.weight_scale.view(linear.out_features, -1), 1)
    scales = memory.copy(scale_on.unflatten(0, (-1, TILE)).transpose(1, 2))
    if linear.bits == 8:
        codes = _laid_out(linear.weight_packed, _pairs, memory)
        inputs = 2 * codes.shape[1]
        return Tiles(Format.INT8, inputs, linear.out_features, inputs, codes, scales, bias)
    group = linear.in_features // linear.weight_scale.shape[1]
    codes = _laid_out(linear.weight_packed, _words, memory)
    return Tiles(Format.INT4, linear.in_features, linear.out_features, group, codes, scales, bias)


def _laid_out(rows: Tensor, layout: Callable[[Tensor], Tensor], memory: Memory) -> Tensor:
    """Rows in the layout of tiles, some at a time, so that little memory is needed beside the result."""
    parts = (layout(part) for part in rows.split(AT_ONCE))
    first = next(parts)
    whole = memory.empty((-(-len(rows) // TILE), *first.shape[1:]), first.dtype)
    place = 0
    for part in chain([first], parts):
        whole[place : place + len(part)] = part
        place += len(part)
    return whole


def _fp32(weight_oi: Tensor) -> Tensor:
    """[t, i, 16]."""
    tiled: Tensor = _padded(weight_oi.float(), 1).unflatten(0, (-1, TILE))
    return tiled.transpose(1, 2)


def _pairs(weight_oi: Tensor) -> Tensor:
    """[t, i / 2, 16, 2]."""
    tiled: Tensor = _padded(weight_oi, 2).unflatten(0, (-1, TILE)).unflatten(2, (-1, 2))
    return tiled.transpose(1, 2)


def _bf16_pairs(weight_oi: Tensor) -> Tensor:
    """[t, i / 2, 16, 2], in bf16."""
    return _pairs(weight_oi.bfloat16())


def _words(codes_oi: Tensor) -> Tensor:
    """Codes, two to a byte with the even inputs in the low halves, to words of four `[t, i / 8, 16, 2]`.

    A word holds every second input of eight, the first in its lowest half byte.
    """
    bytes_of_four = _padded(codes_oi, 4).contiguous().view(torch.int32)
    halves = []
    for codes in (bytes_of_four, bytes_of_four >> 4):
        pairs = codes & 0x0F0F0F0F
        pairs = (pairs | pairs >> 4) & 0x00FF00FF
        halves.append((pairs | pairs >> 8).to(torch.int16))
    words: Tensor = torch.stack(halves, -1).unflatten(0, (-1, TILE)).transpose(1, 2)
    return words


def _padded(rows: Tensor, columns: int) -> Tensor:
    """With zeros, to a multiple of 16 rows and of so many columns."""
    padded: Tensor = F.pad(rows, (0, -rows.shape[1] % columns, 0, -len(rows) % TILE))
    return padded
