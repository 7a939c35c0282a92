"""Matrices in 4 or 8 bits, as ONNX Runtime's MatMulNBits and GatherBlockQuantized read them.

Each block of 32 values in a row has a scale and a zero point of its own: value = (q - zero) * scale. ONNX Runtime's own
quantizer tries one range per block and knows no importance of columns: SmolLM2-135M in 4 bits has a KL divergence of
0.21 nats with this one, 0.38 with that one, and 0.37 with its k-quants.

Shape legend: n rows (outputs), k columns (inputs), c blocks of a row, i values of a block, y bytes.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 32
ROWS = 1024
"""Rows rounded at a time, which bounds the memory."""
RANGES = {4: (1.0, 0.95, 0.9, 0.85, 0.8), 8: (1.0,)}
"""By bits: the shares of a block's range that its levels may cover; values outside are clipped."""


Ways = Callable[[Tensor, int], Iterator[tuple[Tensor, Tensor]]]
"""Scales and zero points to try, `[n, c, 1]` each, for blocks and a number of bits."""


class Blocks(NamedTuple):
    """A rounded matrix: packed values uint8 `[n, c, y]`, scales fp32 `[n, c]`, packed zero points uint8 `[n, y]`.

    Two values of 4 bits share a byte, the first in its lower half.
    """

    values: Tensor
    scales: Tensor
    zeros: Tensor
    bits: int
    columns: int


def round_matrix(weight_nk: Tensor, bits: int, importance_k: Tensor | None = None) -> Blocks:
    """The matrix with every value rounded to the nearest of its block's `2 ** bits` levels.

    The levels are evenly spaced, and zero is one of them. Of a few ranges, the one with the least squared error is
    used, weighted by the importance of each column if given. A matrix that was rounded to 4 bits around zero before, as
    in a quantized model folder, does not change. The last block is padded with zeros.
    """
    weight_nk = weight_nk.detach().float()
    if importance_k is None:
        importance_k = torch.ones(weight_nk.shape[1])
    importance_ci = _in_blocks(importance_k / importance_k.mean())
    ways = _centred if bits == 4 and _is_rounded(weight_nk) else _spread
    rows = [_round_rows(_in_blocks(part), importance_ci, bits, ways) for part in weight_nk.split(ROWS)]
    values, scales, zeros = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return Blocks(values, scales, zeros, bits, weight_nk.shape[1])


def _round_rows(weight_nci: Tensor, importance_ci: Tensor, bits: int, ways: Ways) -> tuple[Tensor, Tensor, Tensor]:
    best = _best(weight_nci, importance_ci, bits, ways)
    return _packed(best.q, bits), best.scale.squeeze(-1), _packed(best.zero.squeeze(-1), bits)


class _Levels(NamedTuple):
    """One way of rounding blocks: `[n, c, i]`, and `[n, c, 1]` for the others."""

    q: Tensor
    scale: Tensor
    zero: Tensor
    error: Tensor


def _spread(weight_nci: Tensor, bits: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Levels over the whole range of a block, or over part of it."""
    low, high = weight_nci.amin(-1, keepdim=True).clamp(max=0), weight_nci.amax(-1, keepdim=True).clamp(min=0)
    for part in RANGES[bits]:
        scale = _not_zero((high - low) * part / (2**bits - 1))
        yield scale, (-low * part / scale).round()


def _centred(weight_nci: Tensor, bits: int) -> Iterator[tuple[Tensor, Tensor]]:
    """As many levels below zero as above; the largest value may be any of them."""
    middle = 2 ** (bits - 1)
    largest = weight_nci.abs().amax(-1, keepdim=True)
    for level in range(middle, 0, -1):
        yield _not_zero(largest / level), torch.full_like(largest, middle)


def _is_rounded(weight_nk: Tensor) -> bool:
    """Whether the first rows are on centred levels already."""
    weight_nci = _in_blocks(weight_nk[:64])
    error = _best(weight_nci, torch.ones(weight_nci.shape[1:]), 4, _centred).error.sum()
    return bool(error <= 1e-8 * weight_nci.square().sum())


def _best(weight_nci: Tensor, importance_ci: Tensor, bits: int, ways: Ways) -> _Levels:
    best, *others = (_levels(weight_nci, importance_ci, bits, *way) for way in ways(weight_nci, bits))
    for other in others:
        better_nc1 = other.error < best.error
        best = _Levels(*(torch.where(better_nc1, new, old) for new, old in zip(other, best, strict=True)))
    return best


def _levels(weight_nci: Tensor, importance_ci: Tensor, bits: int, scale: Tensor, zero: Tensor) -> _Levels:
    """Blocks rounded with a scale and a zero point, with the scale then fitted to the rounded values."""
    q = ((weight_nci / scale).round() + zero).clamp(0, 2**bits - 1)
    steps = q - zero
    weighted = steps * importance_ci
    # Least squares: the sum of v (w - s d)^2 is smallest where s is the sum of v d w by that of v d^2.
    squares, products = (weighted * steps).sum(-1, keepdim=True), (weighted * weight_nci).sum(-1, keepdim=True)
    scale = torch.where((squares > 0) & (products > 0), products / squares, scale)
    error = (importance_ci * (steps * scale - weight_nci) ** 2).sum(-1, keepdim=True)
    return _Levels(q, scale, zero, error)


def _not_zero(scale: Tensor) -> Tensor:
    """The scale, or 1 for a block of zeros."""
    return torch.where(scale == 0, 1.0, scale)


def _in_blocks(x: Tensor) -> Tensor:
    """The last axis split into blocks, the last one padded with zeros."""
    blocks: Tensor = F.pad(x, (0, -x.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    return blocks


def _packed(q: Tensor, bits: int) -> Tensor:
    """Codes as bytes, along the last axis."""
    q = q.to(torch.uint8)
    if bits == 8:
        return q
    q = F.pad(q, (0, q.shape[-1] % 2))
    return q[..., 0::2] | q[..., 1::2] << 4
