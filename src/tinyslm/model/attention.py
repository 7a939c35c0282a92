"""Causal self-attention: the one place where tokens see other tokens.

Shape legend: b batch, t sequence, s sequence with the cached past, d dim, h heads, g kv_heads, k head_dim.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.model.causal import causal_attention
from tinyslm.model.config import ModelConfig
from tinyslm.model.norm import RMSNorm
from tinyslm.model.rotary import Rotary


class LayerCache(Protocol):
    """The keys and values of one layer's past tokens."""

    def extend(self, k_bgtk: Tensor, v_bgtk: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values; returns all of them, `[b, g, s, k]` each."""


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values, rotary positions and QK-norm where the config asks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.dim, width, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.dim, kv_width, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.dim, kv_width, bias=config.attention_bias)
        self.o_proj = nn.Linear(width, config.dim, bias=config.output_bias)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, x_btd: Tensor, rotary: Rotary | None, start: int, cache: LayerCache | None) -> Tensor:
        """[b, t, d] to the same, for tokens at positions `start`, `start + 1`, ..."""
        q_bthk = self._split(self.q_proj(x_btd))
        k_btgk = self._split(self.k_proj(x_btd))
        v_bgtk = self._split(self.v_proj(x_btd)).transpose(1, 2)
        if self.config.qk_norm:
            q_bthk, k_btgk = self.q_norm(q_bthk), self.k_norm(k_btgk)
        if rotary is not None:
            q_bthk, k_btgk = rotary(q_bthk, start), rotary(k_btgk, start)
        q_bhtk, k_bgtk = q_bthk.transpose(1, 2), k_btgk.transpose(1, 2)
        if cache is None:
            y_bhtk = self._attend(q_bhtk, k_bgtk, v_bgtk)
        else:
            y_bhtk = attend_past(q_bhtk, *cache.extend(k_bgtk, v_bgtk))
        out: Tensor = self.o_proj(y_bhtk.transpose(1, 2).flatten(2))
        return out

    def _split(self, x_btd: Tensor) -> Tensor:
        x_bthk: Tensor = x_btd.unflatten(-1, (-1, self.config.head_dim))
        return x_bthk

    def _attend(self, q_bhtk: Tensor, k_bgtk: Tensor, v_bgtk: Tensor) -> Tensor:
        groups = self.config.heads // self.config.kv_heads
        if groups > 1:
            k_bgtk, v_bgtk = k_bgtk.repeat_interleave(groups, 1), v_bgtk.repeat_interleave(groups, 1)
        return causal_attention(q_bhtk, k_bgtk, v_bgtk)


def attend_past(q_bhtk: Tensor, k_bgsk: Tensor, v_bgsk: Tensor) -> Tensor:
    """Attention of the last `t` of `s` tokens over all `s`, each seeing itself and what came before."""
    t, s = q_bhtk.shape[-2], k_bgsk.shape[-2]
    mask = None if t == 1 else torch.ones(t, s, dtype=torch.bool, device=q_bhtk.device).tril(s - t)
    grouped = q_bhtk.shape[1] != k_bgsk.shape[1]
    return F.scaled_dot_product_attention(q_bhtk, k_bgsk, v_bgsk, attn_mask=mask, enable_gqa=grouped)
