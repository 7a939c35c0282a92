"""RMSNorm for training in compiled code: of the residual stream in fp32, for products in bf16 or fp32.

Shape legend: n vectors, d dim.
"""

from typing import Any

import torch
from torch import Tensor

from tinyslm.model.kernels.library import at_hand, call

MULTIPLE = 16
"""Of this is `dim`."""


def suits(x: Tensor) -> bool:
    """Whether compiled norms are for these vectors."""
    return x.dtype == torch.float32 and x.shape[-1] % MULTIPLE == 0 and at_hand(_wanted(), x)


def _wanted() -> torch.dtype:
    """What the products that read the result are made of."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


class KernelNorm(torch.autograd.Function):
    """x / rms(x) * weight; keeps its input and one number for each vector."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """`[..., d]` in fp32 to the same as products want it."""
        x = x.contiguous()
        y = torch.empty(x.shape, dtype=_wanted())
        scales_n = torch.empty(x.shape[:-1], dtype=torch.float32)
        call("tinyslm_norm", y.dtype, x, weight, y, scales_n, scales_n.numel(), x.shape[-1], eps)
        ctx.save_for_backward(x, weight, scales_n)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradients of the vectors and the weight."""
        x, weight, scales_n = ctx.saved_tensors
        dx, d_weight = torch.empty_like(x), torch.empty_like(weight)
        call(
            "tinyslm_norm_back",
            dy.dtype,
            *(dy.contiguous(), x, weight, scales_n, dx, d_weight, scales_n.numel(), x.shape[-1]),
        )
        return dx, d_weight, None
