"""Causal self-attention: the one place where tokens see other tokens.

Shape legend: b batch, t sequence, s sequence with the cached past, d dim, h heads, g kv_heads, k head_dim.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.model.attention_context import AttentionContext, Span
from tinyslm.model.causal import causal_attention
from tinyslm.model.config import ModelConfig
from tinyslm.model.kernels import heads
from tinyslm.model.layers import Linear
from tinyslm.model.norm import RMSNorm
from tinyslm.model.rotary import CosSin, apply_rotary


class LayerCache(Protocol):
    """The keys and values of one layer's past tokens."""

    def extend(self, k_bgtk: Tensor, v_bgtk: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values; returns all of them, `[b, g, s, k]` each."""


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values, rotary positions, QK-norm and windows where the config asks.

    Attributes: `scale` of the products of queries and keys; `windowed`, `local` and `rotated` say which mask and which
    rotation of an `AttentionContext` this block uses.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.scale = config.query_scale
        self.windowed = layer in config.window_layers
        self.local = self.windowed and config.local_rope_theta > 0
        self.rotated = config.positions == "rope" and layer not in config.unrotated_layers
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = Linear(config.dim, width, bias=config.attention_bias)
        self.k_proj = Linear(config.dim, kv_width, bias=config.attention_bias)
        self.v_proj = Linear(config.dim, kv_width, bias=config.attention_bias)
        self.o_proj = Linear(width, config.dim, bias=config.output_bias)
        if config.qk_norm:
            by_head = config.qk_norm_over == "head"
            self.q_norm = RMSNorm(config.head_dim if by_head else width, config.norm_eps, config.norm_offset)
            self.k_norm = RMSNorm(config.head_dim if by_head else kv_width, config.norm_eps, config.norm_offset)

    def forward(self, x_btd: Tensor, attn: AttentionContext, cache: LayerCache | None) -> Tensor:
        """[b, t, d] to the same."""
        q, k, v_btgk = self.q_proj(x_btd), self.k_proj(x_btd), self._split(self.v_proj(x_btd))
        if self.config.qk_norm and self.config.qk_norm_over == "all":
            q, k = self.q_norm(q), self.k_norm(k)
        q_bthk, k_btgk = self._split(q), self._split(k)
        cos_sin, by_head = self.rotation(attn), self.config.qk_norm and self.config.qk_norm_over == "head"
        if cos_sin is not None and torch.is_grad_enabled() and heads.suits(q_bthk, cos_sin.cos):
            q_bthk = heads.prepared(q_bthk, self.q_norm if by_head else None, cos_sin)
            k_btgk = heads.prepared(k_btgk, self.k_norm if by_head else None, cos_sin)
            y_bthk = self._gathered(q_bthk, k_btgk, v_btgk, attn, cache)
        else:
            if by_head:
                q_bthk, k_btgk = self.q_norm(q_bthk), self.k_norm(k_btgk)
            y_bthk = self.core(q_bthk, k_btgk, v_btgk, attn, cache)
        out: Tensor = self.o_proj(y_bthk.flatten(2))
        return out

    def core(
        self, q_bthk: Tensor, k_btgk: Tensor, v_btgk: Tensor, attn: AttentionContext, cache: LayerCache | None
    ) -> Tensor:
        """Queries, keys and values to what each token gathers, `[b, t, h, k]`."""
        if (cos_sin := self.rotation(attn)) is not None:
            q_bthk, k_btgk = apply_rotary(q_bthk, cos_sin), apply_rotary(k_btgk, cos_sin)
        return self._gathered(q_bthk, k_btgk, v_btgk, attn, cache)

    def rotation(self, attn: AttentionContext) -> CosSin | None:
        """The rotation of this block's queries and keys."""
        cos_sin = attn.local_cos_sin if self.local else attn.cos_sin
        return cos_sin if self.rotated else None

    def _gathered(
        self, q_bthk: Tensor, k_btgk: Tensor, v_btgk: Tensor, attn: AttentionContext, cache: LayerCache | None
    ) -> Tensor:
        q_bhtk, k_bgsk, v_bgsk = q_bthk.transpose(1, 2), k_btgk.transpose(1, 2), v_btgk.transpose(1, 2)
        if cache is not None:
            k_bgsk, v_bgsk = cache.extend(k_bgsk, v_bgsk)
        mask = attn.window_mask if self.windowed else attn.mask
        if attn.spans and mask is None:
            return packed_attention(q_bhtk, k_bgsk, v_bgsk, attn.spans, self.scale).transpose(1, 2)
        return attend(q_bhtk, k_bgsk, v_bgsk, mask, self.scale, self.config.attention_cap).transpose(1, 2)

    def _split(self, x_btd: Tensor) -> Tensor:
        x_bthk: Tensor = x_btd.unflatten(-1, (-1, self.config.head_dim))
        return x_bthk


def attend(
    q_bhtk: Tensor, k_bgsk: Tensor, v_bgsk: Tensor, mask: Tensor | None, scale: float, cap: float = 0.0
) -> Tensor:
    """Attention of the last `t` of `s` tokens, `[b, h, t, k]`; without a mask each sees itself and all before."""
    if cap:
        return _capped(q_bhtk, k_bgsk, v_bgsk, mask, scale, cap)
    groups = q_bhtk.shape[1] // k_bgsk.shape[1]
    t, s = q_bhtk.shape[2], k_bgsk.shape[2]
    if mask is None and t > 1:
        assert t == s, "a past needs a mask"
        return causal_attention(q_bhtk, k_bgsk, v_bgsk, scale)
    return F.scaled_dot_product_attention(q_bhtk, k_bgsk, v_bgsk, attn_mask=mask, scale=scale, enable_gqa=groups > 1)


def packed_attention(q_bhtk: Tensor, k_bgtk: Tensor, v_bgtk: Tensor, spans: Sequence[Span], scale: float) -> Tensor:
    """Causal attention within each example of packed rows, `[b, h, t, k]`; zeros for padding."""
    rows: list[list[Tensor]] = [[] for _ in q_bhtk]
    filled = [0] * len(rows)
    for row, start, stop in spans:
        mine = (slice(row, row + 1), slice(None), slice(start, stop))
        rows[row].append(causal_attention(q_bhtk[mine], k_bgtk[mine], v_bgtk[mine], scale))
        filled[row] = stop
    for row, done in enumerate(filled):
        if (rest := q_bhtk.shape[2] - done) or not rows[row]:
            rows[row].append(q_bhtk.new_zeros(1, q_bhtk.shape[1], rest, q_bhtk.shape[3]))
    return torch.cat([torch.cat(parts, 2) for parts in rows])


def _capped(q_bhtk: Tensor, k_bgsk: Tensor, v_bgsk: Tensor, mask: Tensor | None, scale: float, cap: float) -> Tensor:
    """Attention with soft-capped scores, cap * tanh(score / cap), for which PyTorch has no fused kernel (Gemma 2)."""
    groups, t, s = q_bhtk.shape[1] // k_bgsk.shape[1], q_bhtk.shape[2], k_bgsk.shape[2]
    k_bhsk, v_bhsk = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k_bgsk, v_bgsk))
    scores_bhts = torch.tanh(q_bhtk @ k_bhsk.transpose(2, 3) * (scale / cap)) * cap
    if mask is None:
        assert t in (1, s), "a past needs a mask"
        mask = torch.ones(t, s, dtype=torch.bool, device=q_bhtk.device).tril(s - t)
    weights_bhts = scores_bhts.float().masked_fill(~mask, float("-inf")).softmax(-1)
    return weights_bhts.to(v_bhsk.dtype) @ v_bhsk
