"""What queries and keys go through before attention, for training in compiled code: a norm and the rotation.

Shape legend: b batch, t sequence, h heads, k head_dim.
"""

import ctypes
from typing import Any, Protocol

import torch
from torch import Tensor

from tinyslm.model.kernels.library import at_hand, call

MULTIPLE, WIDEST = 32, 256
"""Of this is `head_dim`, and at most so much."""


class Norm(Protocol):
    """An RMSNorm over heads."""

    eps: float

    @property
    def scale(self) -> Tensor:
        """What its vectors are multiplied by, `[k]` in fp32."""


class Shape(ctypes.Structure):
    """`heads::Shape` of heads.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("positions", "length", "heads", "width")),
        ("eps", ctypes.c_float),
    )


def suits(x_bthk: Tensor, cos: Tensor) -> bool:
    """Whether it is for these heads: each is rotated as a whole, by the same angles in every sequence."""
    width = x_bthk.shape[-1]
    fits = width % MULTIPLE == 0 and width <= WIDEST and cos.shape[-1] == width and cos.shape[0] == 1
    return fits and at_hand(x_bthk.dtype, x_bthk)


def prepared(x_bthk: Tensor, norm: Norm | None, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
    """Heads through their norm, where they have one, then rotated (by cosines and sines)."""
    weight, eps = (None, 0.0) if norm is None else (norm.scale, norm.eps)
    y_bthk: Tensor = KernelHeads.apply(x_bthk, weight, *cos_sin, eps)  # type: ignore[no-untyped-call]
    return y_bthk


class KernelHeads(torch.autograd.Function):
    """Each head through RMSNorm, where there is a weight `[k]`, then rotated; saves its input."""

    @staticmethod
    def forward(ctx: Any, x_bthk: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        """`[b, t, h, k]` to the same; cos and sin are `[1, t, 1, k]` in fp32, the first half of sin negative."""
        x_bthk, cos, sin = x_bthk.contiguous(), cos.contiguous(), sin.contiguous()
        b, t, h, k = x_bthk.shape
        y_bthk = torch.empty_like(x_bthk)
        scales = torch.empty(b * t * h if weight is not None else 0, dtype=torch.float32)
        call("tinyslm_heads", x_bthk.dtype, Shape(b * t, t, h, k, eps), x_bthk, weight, cos, sin, y_bthk, scales)
        ctx.save_for_backward(x_bthk, weight, cos, sin, scales)
        ctx.eps = eps
        return y_bthk

    @staticmethod
    def backward(ctx: Any, dy_bthk: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        """The gradients of the heads and the weight."""
        x_bthk, weight, cos, sin, scales = ctx.saved_tensors
        b, t, h, k = x_bthk.shape
        dx_bthk = torch.empty_like(x_bthk)
        d_weight = None if weight is None else torch.empty_like(weight)
        shape = Shape(b * t, t, h, k, ctx.eps)
        call(
            "tinyslm_heads_back",
            x_bthk.dtype,
            *(shape, dy_bthk.contiguous(), x_bthk, weight, cos, sin, scales, dx_bthk, d_weight),
        )
        return dx_bthk, d_weight, None, None, None
