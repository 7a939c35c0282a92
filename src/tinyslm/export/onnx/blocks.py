"""Matrices in 4 or 8 bits, as ONNX Runtime's MatMulNBits and GatherBlockQuantized read them.

Each run of 32 values in a row is one block with a scale and a zero point of its own: value = (q - zero) * scale.

Shape legend: n rows (outputs), k columns (inputs), c blocks of a row, i values of a block, y bytes.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 32
ROWS = 8192
"""Rows rounded at a time: what is held besides the result stays small."""
SHRINKS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8)
"""How much of a block's range is tried as the range of its 16 levels; what lies outside is cut off."""


class Blocks(NamedTuple):
    """A rounded matrix: packed values uint8 `[n, c, y]`, scales fp32 `[n, c]`, packed zero points uint8 `[n, y]`.

    Two values of 4 bits share a byte, the first in its lower half.
    """

    values: Tensor
    scales: Tensor
    zeros: Tensor
    bits: int
    columns: int


def round_matrix(weight_nk: Tensor, bits: int) -> Blocks:
    """The matrix with every value rounded to the nearest of its block's `2 ** bits` levels.

    The levels of a block lie evenly between two ends, zero being one of them; in 4 bits, the ends are those of a few
    that give the least squared error. A last block that is not full is filled up with zeros.
    """
    rows = [_round_rows(part, bits) for part in weight_nk.detach().float().split(ROWS)]
    values, scales, zeros = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return Blocks(values, scales, zeros, bits, weight_nk.shape[1])


def restored(blocks: Blocks) -> Tensor:
    """The matrix `[n, k]` that rounded blocks stand for."""
    q_nci = _unpacked(blocks.values, blocks.bits).float()
    zeros_nc = _unpacked(blocks.zeros, blocks.bits)[:, : q_nci.shape[1]].float()
    whole_nci = (q_nci - zeros_nc[..., None]) * blocks.scales[..., None]
    return whole_nci.flatten(1)[:, : blocks.columns]


def _round_rows(weight_nk: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    full_nk = F.pad(weight_nk, (0, -weight_nk.shape[1] % BLOCK))
    weight_nci = full_nk.unflatten(1, (-1, BLOCK))
    shrinks = SHRINKS if bits == 4 else (1.0,)
    best = _levels(weight_nci, bits, shrinks[0])
    for shrink in shrinks[1:]:
        other = _levels(weight_nci, bits, shrink)
        better_nc1 = other[3] < best[3]
        best = tuple(torch.where(better_nc1, new, old) for new, old in zip(other, best, strict=True))
    q_nci, scale_nc1, zero_nc1, _ = best
    return _packed(q_nci, bits), scale_nc1.squeeze(-1), _packed(zero_nc1.squeeze(-1), bits)


def _levels(weight_nci: Tensor, bits: int, shrink: float) -> tuple[Tensor, ...]:
    """Rounded values, scale, zero point and squared error of each block, its range taken `shrink` times as wide."""
    top = 2**bits - 1
    low = weight_nci.amin(-1, keepdim=True).clamp(max=0) * shrink
    high = weight_nci.amax(-1, keepdim=True).clamp(min=0) * shrink
    scale = (high - low) / top
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).round()
    q = ((weight_nci / scale).round() + zero).clamp(0, top)
    error = (((q - zero) * scale - weight_nci) ** 2).sum(-1, keepdim=True)
    return q, scale, zero, error


def _packed(q: Tensor, bits: int) -> Tensor:
    """Whole numbers as bytes, along the last axis."""
    q = q.to(torch.uint8)
    if bits == 8:
        return q
    q = F.pad(q, (0, q.shape[-1] % 2))
    return q[..., 0::2] | q[..., 1::2] << 4


def _unpacked(packed: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return packed
    return torch.stack([packed & 15, packed >> 4], -1).flatten(-2)
