"""Causal attention over a whole sequence, for training.

PyTorch's fused attention is slow in bf16 on CPUs. There the compiled kernel is used (`kernels/attention.py`); where it
cannot be had, attention is written out here: queries go in blocks, and a block only meets the keys up to its own end,
which leaves out almost half of the products.

Shape legend: b batch, h heads, g key-value heads, n batch * heads, t sequence, k head_dim, r rows of a block, s keys
that a block sees.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm.model.kernels import attention as kernel


def causal_attention(q_bhtk: Tensor, k_bgtk: Tensor, v_bgtk: Tensor, scale: float) -> Tensor:
    """softmax(scale * q k^T) v, `[b, h, t, k]`, each token seeing itself and earlier ones; keys and values are
    `[b, g, t, k]`, each for h / g heads in turn."""
    if kernel.suits(q_bhtk):
        y_bhtk: Tensor = kernel.KernelAttention.apply(q_bhtk, k_bgtk, v_bgtk, scale)  # type: ignore[no-untyped-call]
        return y_bhtk
    groups = q_bhtk.shape[1] // k_bgtk.shape[1]
    k_bhtk, v_bhtk = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k_bgtk, v_bgtk))
    if q_bhtk.device.type != "cpu" or q_bhtk.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q_bhtk, k_bhtk, v_bhtk, is_causal=True, scale=scale)
    q_ntk, k_ntk, v_ntk = (x.flatten(0, 1) for x in (q_bhtk, k_bhtk, v_bhtk))
    y_ntk: Tensor = BlockAttention.apply(q_ntk, k_ntk, v_ntk, scale)  # type: ignore[no-untyped-call]
    return y_ntk.view(q_bhtk.shape)


class BlockAttention(torch.autograd.Function):
    """Causal attention in blocks of queries; keeps each block's probabilities for the backward pass."""

    @staticmethod
    def forward(ctx: Any, q_ntk: Tensor, k_ntk: Tensor, v_ntk: Tensor, scale: float) -> Tensor:
        """Queries, keys and values `[n, t, k]` to the same shape."""
        ctx.scale = scale
        y_ntk = torch.empty_like(q_ntk)
        probabilities = []
        for start, stop in blocks(q_ntk.shape[1]):
            scores_nrs = torch.bmm(q_ntk[:, start:stop], k_ntk[:, :stop].transpose(1, 2)).mul_(scale)
            future = scores_nrs.new_full((stop - start, stop - start), float("-inf")).triu_(1)
            scores_nrs[:, :, start:] += future
            p_nrs = torch.softmax(scores_nrs, -1)
            y_ntk[:, start:stop] = torch.bmm(p_nrs, v_ntk[:, :stop])
            probabilities.append(p_nrs)
        ctx.save_for_backward(q_ntk, k_ntk, v_ntk, *probabilities)
        return y_ntk

    @staticmethod
    def backward(ctx: Any, dy_ntk: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The chain rule through p = softmax(scale * q k^T) and y = p v, block by block."""
        q_ntk, k_ntk, v_ntk, *probabilities = ctx.saved_tensors
        dq_ntk, dk_ntk, dv_ntk = torch.empty_like(q_ntk), torch.zeros_like(k_ntk), torch.zeros_like(v_ntk)
        for (start, stop), p_nrs in zip(blocks(q_ntk.shape[1]), probabilities, strict=True):
            dy_nrk = dy_ntk[:, start:stop]
            dv_ntk[:, :stop] += torch.bmm(p_nrs.transpose(1, 2), dy_nrk)
            dp_nrs = torch.bmm(dy_nrk, v_ntk[:, :stop].transpose(1, 2))
            ds_nrs = torch._softmax_backward_data(dp_nrs, p_nrs, -1, p_nrs.dtype).mul_(ctx.scale)
            dq_ntk[:, start:stop] = torch.bmm(ds_nrs, k_ntk[:, :stop])
            dk_ntk[:, :stop] += torch.bmm(ds_nrs.transpose(1, 2), q_ntk[:, start:stop])
        return dq_ntk, dk_ntk, dv_ntk, None


def blocks(length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each block of queries; longer sequences take larger ones (measured: 64 up to 256 tokens)."""
    size = 64 if length <= 256 else 128
    for start in range(0, length, size):
        yield start, min(start + size, length)
