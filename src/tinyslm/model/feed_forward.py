"""The feed-forward of a block: what a token makes of what it gathered.

Shape legend: b batch, t sequence, d dim, f ffn_dim.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.model.config import GATED, ModelConfig
from tinyslm.model.kernels import gate as kernel
from tinyslm.model.layers import Linear


class GatedFeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer, 2020); GeGLU has the tanh form of GELU in silu's place."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.dim, config.ffn_dim, bias=config.ffn_bias)
        self.up_proj = Linear(config.dim, config.ffn_dim, bias=config.ffn_bias)
        self.down_proj = Linear(config.ffn_dim, config.dim, bias=config.ffn_bias)
        self.kind = config.feed_forward

    def forward(self, x_btd: Tensor) -> Tensor:
        """[b, t, d] to the same."""
        gate_btf = self.gate_proj(x_btd)
        if self.kind == "swiglu" and torch.is_grad_enabled() and kernel.suits(gate_btf):
            y: Tensor = self.down_proj(kernel.KernelGate.apply(gate_btf, self.up_proj(x_btd)))  # type: ignore[no-untyped-call]
            return y
        open_btf = F.silu(gate_btf) if self.kind == "swiglu" else F.gelu(gate_btf, approximate="tanh")
        out: Tensor = self.down_proj(open_btf * self.up_proj(x_btd))
        return out


class FeedForward(nn.Module):
    """The classic feed-forward: down(act(up(x))), with ReLU or the exact or the tanh form of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.dim, config.ffn_dim, bias=config.ffn_bias)
        self.down_proj = Linear(config.ffn_dim, config.dim, bias=config.ffn_bias)
        self.kind = config.feed_forward

    def forward(self, x_btd: Tensor) -> Tensor:
        """[b, t, d] to the same."""
        up_btf = self.up_proj(x_btd)
        if self.kind == "relu":
            active_btf = F.relu(up_btf)
        else:
            active_btf = F.gelu(up_btf, approximate="tanh" if self.kind == "gelu_tanh" else "none")
        out: Tensor = self.down_proj(active_btf)
        return out


def make_feed_forward(config: ModelConfig) -> nn.Module:
    """The feed-forward that `config` asks for."""
    return GatedFeedForward(config) if config.feed_forward in GATED else FeedForward(config)
