"""Rotary position embedding (Su et al., 2021), in the halves layout of Llama and Qwen.

Shape legend: b batch, t sequence, h heads, k head_dim.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Turns queries and keys by angles that grow with their position, so that products tell distances."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, context: int, theta: float) -> None:
        super().__init__()
        # On the CPU even while a model is laid out on the "meta" device: these are values, not weights to be loaded.
        frequencies = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)
        angles = torch.outer(torch.arange(context, dtype=torch.float32, device="cpu"), frequencies)
        self.register_buffer("cos", torch.cat([angles, angles], -1).cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x_bthk: Tensor, start: int) -> Tensor:
        """Turn queries or keys that stand at positions `start`, `start + 1`, ..."""
        stop = start + x_bthk.shape[1]
        cos_t1k, sin_t1k = self.cos[start:stop, None].to(x_bthk.dtype), self.sin[start:stop, None].to(x_bthk.dtype)
        y: Tensor = Turn.apply(x_bthk, cos_t1k, sin_t1k)  # type: ignore[no-untyped-call]
        return y


class Turn(torch.autograd.Function):
    """(a, b) -> (a cos - b sin, b cos + a sin) for the halves a and b; the gradient turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`cos` is as wide as `x`, `sin` half as wide."""
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """The transpose of a rotation is the rotation by the opposite angle."""
        cos, sin = ctx.saved_tensors
        return turned(dy, cos, -sin), None, None


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` turned, in three passes over memory."""
    half = sin.shape[-1]
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin, value=-1)
    y[..., half:].addcmul_(x[..., :half], sin)
    return y
