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
    """Rows in the layout of tiles, converted in parts, to need little memory in addition to the result."""
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
    return _tiled(_padded(weight_oi.float(), 1))


def _pairs(weight_oi: Tensor) -> Tensor:
    """[t, i / 2, 16], two neighbours as one number of twice the width: a copy moves half as many."""
    return _tiled(_widened(_padded(weight_oi, 2), torch.int32 if weight_oi.itemsize == 2 else torch.int16))


def _bf16_pairs(weight_oi: Tensor) -> Tensor:
    """[t, i / 2, 16], in bf16."""
    return _pairs(weight_oi.bfloat16())


def _words(codes_oi: Tensor) -> Tensor:
    """Codes, two to a byte with the even inputs in the low halves, to words `[t, i / 8, 16]` of 32 bits.

    The low half of a word holds every second input of eight, the first in its lowest half byte; the high half the
    others.
    """
    words = _widened(_padded(codes_oi, 4), torch.int32)
    for bits, mask in ((4, 0x00F000F0), (8, 0x0000FF00)):  # exchange inner half bytes, then inner bytes
        differing = (words >> bits).bitwise_xor_(words).bitwise_and_(mask)
        words = words ^ differing
        words.bitwise_xor_(differing.bitwise_left_shift_(bits))
    return _tiled(words)


def _tiled(rows: Tensor) -> Tensor:
    """[o, n] to [t, n, 16]."""
    tiled: Tensor = rows.unflatten(0, (-1, TILE))
    return tiled.transpose(1, 2)


def _widened(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """The same bytes as numbers of another width; a view where their place in memory allows it."""
    fits = rows.is_contiguous() and rows.storage_offset() * rows.itemsize % dtype.itemsize == 0
    return (rows if fits else rows.clone(memory_format=torch.contiguous_format)).view(dtype)


def _padded(rows: Tensor, columns: int) -> Tensor:
    """With zeros, to a multiple of 16 rows and of so many columns."""
    missing = (0, -rows.shape[1] % columns, 0, -len(rows) % TILE)
    padded: Tensor = F.pad(rows, missing) if any(missing) else rows
    return padded
