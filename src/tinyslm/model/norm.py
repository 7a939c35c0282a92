"""The norms of the residual stream and of queries and keys."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.model.config import ModelConfig
from tinyslm.model.kernels import norm as kernel


class RMSNorm(nn.Module):
    """Scale each vector to a root mean square of one, then by a learned weight (Zhang and Sennrich, 2019).

    `offset`: the scale is one plus the weight, as in Gemma.
    """

    def __init__(self, dim: int, eps: float, offset: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim) if offset else torch.ones(dim))
        self.eps = eps
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] to the same; statistics in fp32, the result in the autocast type where one is set."""
        scale = self.scale
        if torch.is_grad_enabled() and kernel.suits(x):
            z: Tensor = kernel.KernelNorm.apply(x, scale, self.eps)  # type: ignore[no-untyped-call]
            return z
        if x.device.type == "cpu" and torch.is_grad_enabled():
            y: Tensor = RMSNormOnCPU.apply(x, scale, self.eps)  # type: ignore[no-untyped-call]
            return y
        out: Tensor = F.rms_norm(x.float(), scale.shape, scale, self.eps).type_as(x)
        return out

    @property
    def scale(self) -> Tensor:
        """What the vectors are multiplied by, in fp32."""
        weight = self.weight.float()
        return weight + 1 if self.offset else weight


class RMSNormOnCPU(torch.autograd.Function):
    """RMSNorm in few passes over memory, for where there is no kernel: PyTorch has no fused backward pass for CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / rms(x) * weight."""
        wide = x.float()
        mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(eps).rsqrt_()
        unit = wide * scale
        ctx.save_for_backward(unit, scale, weight)
        ctx.dtype = x.dtype
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        y: Tensor = (unit * weight).to(dtype)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        """With u = x / rms(x) and g = dy * weight: dx = (g - u * mean(g * u)) / rms(x), dweight = sum(dy * u)."""
        unit, scale, weight = ctx.saved_tensors
        dy = dy.float()
        d_weight = (dy * unit).flatten(0, -2).sum(0)
        g = dy * weight
        along = torch.linalg.vecdot(g, unit).div_(unit.shape[-1]).unsqueeze(-1)
        return g.addcmul_(unit, along, value=-1).mul_(scale).to(ctx.dtype), d_weight.to(weight.dtype), None


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm of the residual stream that `config` asks for."""
    if config.norm == "rms":
        return RMSNorm(config.dim, config.norm_eps, config.norm_offset)
    return nn.LayerNorm(config.dim, config.norm_eps)
