"""SwiGLU's gate for training in compiled code."""

from typing import Any

import torch
from torch import Tensor

from tinyslm.model.kernels.library import at_hand, call

MULTIPLE = 16
"""Of this is the number of values."""


def suits(gates: Tensor) -> bool:
    """Whether it is for these values."""
    return gates.numel() % MULTIPLE == 0 and at_hand(gates.dtype, gates)


class KernelGate(torch.autograd.Function):
    """silu(gates) * ups; keeps both."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, ups: Tensor) -> Tensor:
        """Two of one shape to the same."""
        gates, ups = gates.contiguous(), ups.contiguous()
        y = torch.empty_like(gates)
        call("tinyslm_gate", gates.dtype, gates, ups, y, gates.numel())
        ctx.save_for_backward(gates, ups)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of both."""
        gates, ups = ctx.saved_tensors
        d_gates, d_ups = torch.empty_like(gates), torch.empty_like(ups)
        call("tinyslm_gate_back", gates.dtype, dy.contiguous(), gates, ups, d_gates, d_ups, gates.numel())
        return d_gates, d_ups
