"""The small parts of a block: norms, rotary positions, feed-forwards.

Shape legend: b batch, t sequence, d dim, h heads, k head_dim, f ffn_dim.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.model.config import ModelConfig


class RMSNorm(nn.Module):
    """Scale each vector to a root mean square of one, then by a learned weight (Zhang and Sennrich, 2019)."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] to the same; the statistics are taken in fp32."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight).to(x.dtype)


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm of the residual stream that `config` asks for."""
    if config.norm == "rms":
        return RMSNorm(config.dim, config.norm_eps)
    return nn.LayerNorm(config.dim, config.norm_eps)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al., 2021), halves layout as in Llama and Qwen."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, context: int, theta: float):
        super().__init__()
        # On the CPU even while a model is laid out on the "meta" device: these are values, not weights to be loaded.
        frequencies = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)
        angles = torch.outer(torch.arange(context, dtype=torch.float32, device="cpu"), frequencies)
        angles = torch.cat([angles, angles], dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x_bhtk: Tensor, start: int) -> Tensor:
        """Turn queries or keys that stand at positions `start`, `start + 1`, ..."""
        stop = start + x_bhtk.shape[-2]
        cos, sin = self.cos[start:stop].to(x_bhtk.dtype), self.sin[start:stop].to(x_bhtk.dtype)
        first, second = x_bhtk.chunk(2, dim=-1)
        return x_bhtk * cos + torch.cat([-second, first], dim=-1) * sin


class GatedFeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer, 2020)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.dim, config.ffn_dim, bias=config.ffn_bias)
        self.up_proj = nn.Linear(config.dim, config.ffn_dim, bias=config.ffn_bias)
        self.down_proj = nn.Linear(config.ffn_dim, config.dim, bias=config.ffn_bias)

    def forward(self, x_btd: Tensor) -> Tensor:
        """[b, t, d] to the same."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x_btd)) * self.up_proj(x_btd))
        return out


class FeedForward(nn.Module):
    """The classic feed-forward: down(gelu(up(x))), with the exact or the tanh form of GELU."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.dim, config.ffn_dim, bias=config.ffn_bias)
        self.down_proj = nn.Linear(config.ffn_dim, config.dim, bias=config.ffn_bias)
        self.approximate = "tanh" if config.feed_forward == "gelu_tanh" else "none"

    def forward(self, x_btd: Tensor) -> Tensor:
        """[b, t, d] to the same."""
        out: Tensor = self.down_proj(F.gelu(self.up_proj(x_btd), approximate=self.approximate))
        return out


def make_feed_forward(config: ModelConfig) -> nn.Module:
    """The feed-forward that `config` asks for."""
    return GatedFeedForward(config) if config.feed_forward == "swiglu" else FeedForward(config)
