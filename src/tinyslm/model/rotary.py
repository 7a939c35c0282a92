"""Rotary position embedding (Su et al., 2021), in the halves layout of Llama and Qwen.

Shape legend: b batch, t sequence, h heads, k head_dim, r values of a head that are rotated.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tinyslm.model.config import ModelConfig
from tinyslm.model.rope_scaling import rope_frequencies

SHORT = 1
"""A length in tokens at which scaling that depends on the length of the text has no effect."""


class CosSin(NamedTuple):
    """The rotation of queries and keys: `[b, t, 1, r]` each (b is 1 if it is the same for all sequences).

    The first half of `sin` is negative, so that y = x * cos + swapped(x) * sin, with the halves of x swapped.
    """

    cos: Tensor
    sin: Tensor


class Rotary(nn.Module):
    """Angles that grow with the position, each pair of values at a speed of its own, so products tell distances."""

    frequencies: Tensor

    def __init__(self, config: ModelConfig, theta: float) -> None:
        super().__init__()
        self.config, self.theta = config, theta
        frequencies, self.scale = rope_frequencies(config, theta, SHORT)
        # Not part of the weights: it follows from the config.
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, positions_bt: Tensor, length: int) -> CosSin:
        """The rotation at each position, for sequences of `length` tokens ("dynamic" and "longrope" depend on it)."""
        grown = self.grown(length)
        frequencies = self.frequencies if grown is None else grown.to(positions_bt.device)
        angles = positions_bt[:, :, None, None].float() * frequencies
        cos, sin = angles.cos() * self.scale, angles.sin() * self.scale
        return CosSin(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))

    def _apply(self, fn: Any, recurse: bool = True) -> "Rotary":
        """Move with the model to its device, and stay fp32 when the weights become something shorter."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.frequencies = rope_frequencies(self.config, self.theta, SHORT)[0].to(self.frequencies.device)
        return self

    def grown(self, length: int) -> Tensor | None:
        """The frequencies for sequences of `length` tokens where they differ from those of short ones."""
        config = self.config
        limit = config.context if config.rope_scaling.kind == "dynamic" else config.switch_length
        if not limit or length <= limit:
            return None
        return rope_frequencies(self.config, self.theta, length)[0]


def apply_rotary(x_bthk: Tensor, cos_sin: CosSin) -> Tensor:
    """Queries or keys `[b, t, h, k]`, rotated; values beyond the first r of each head are unchanged."""
    cos, sin = cos_sin.cos.to(x_bthk.dtype), cos_sin.sin.to(x_bthk.dtype)
    r = cos.shape[-1]
    if r < x_bthk.shape[-1]:
        return torch.cat([_rotate(x_bthk[..., :r], cos, sin), x_bthk[..., r:]], -1)
    return _rotate(x_bthk, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        y: Tensor = RotateInTraining.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return y
    left, right = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat([right, left], -1), sin)


class RotateInTraining(torch.autograd.Function):
    """The rotation in three passes over memory; its gradient is the opposite rotation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x * cos + swapped(x) * sin."""
        ctx.save_for_backward(cos, sin)
        return _rotate_in_place(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """The transpose of a rotation is the rotation by the opposite angle."""
        cos, sin = ctx.saved_tensors
        return _rotate_in_place(dy, cos, -sin), None, None


def _rotate_in_place(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin[..., :half])
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y
