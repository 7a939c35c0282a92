"""The model: a stack of pre-norm blocks over token embeddings, ending in logits.

Modules carry the names that Llama and Qwen have in Hugging Face folders, so that for these families loading is the
identity; `families/` holds the renaming for the others.

Shape legend: b batch, t sequence, d dim, v vocab_size.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tinyslm.core.errors import TinyslmError
from tinyslm.model.attention import Attention, LayerCache
from tinyslm.model.attention_context import (
    AttentionContext,
    causal_mask,
    packed_mask,
    packed_positions,
    spans_of,
    token_positions,
)
from tinyslm.model.config import ModelConfig
from tinyslm.model.feed_forward import make_feed_forward
from tinyslm.model.layers import Embedding, Linear
from tinyslm.model.norm import make_norm
from tinyslm.model.rope_scaling import without_rope_scaling
from tinyslm.model.rotary import Rotary


class Cache(Protocol):
    """The past of a batch of sequences: each layer's keys and values."""

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One cache for each block."""


class Block(nn.Module):
    """x + attention(x), then x + feed_forward(x), with norms where the config puts them.

    "serial": the feed-forward reads what attention wrote; "parallel": both read the same.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.norms = NORMS[config.residual if config.residual == "parallel_one_norm" else config.norm_place]
        for name in self.norms:
            if name and not hasattr(self, name):
                setattr(self, name, make_norm(config))
        self.self_attn = Attention(config, layer)
        self.mlp = make_feed_forward(config)

    def forward(self, x_btd: Tensor, attn: AttentionContext, cache: LayerCache | None) -> Tensor:
        """[b, t, d] to the same."""
        before_attention, after_attention, before_mlp, after_mlp = (self._norm(name) for name in self.norms)
        gathered = self._scaled(after_attention(self.self_attn(before_attention(x_btd), attn, cache)))
        if self.config.residual == "serial":
            x_btd = x_btd + gathered
            return x_btd + self._scaled(after_mlp(self.mlp(before_mlp(x_btd))))
        return x_btd + gathered + self._scaled(after_mlp(self.mlp(before_mlp(x_btd))))

    def _norm(self, name: str) -> Callable[[Tensor], Tensor]:
        norm: Callable[[Tensor], Tensor] = getattr(self, name) if name else _same
        return norm

    def _scaled(self, x: Tensor) -> Tensor:
        """What is added to the stream: part of it dropped in training, multiplied where the config asks."""
        x = F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x
        return x * self.config.residual_scale if self.config.residual_scale != 1 else x


NORMS = {
    "before": ("input_layernorm", "", "post_attention_layernorm", ""),
    "after": ("", "post_attention_layernorm", "", "post_feedforward_layernorm"),
    "both": (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
    "parallel_one_norm": ("input_layernorm", "", "input_layernorm", ""),
}
"""Hugging Face's names of the norms before and after attention, before and after the feed-forward; "" where none is."""


class Trunk(nn.Module):
    """Embeddings, blocks and the final norm: everything but the output projection.

    recompute: keep nothing of a block but its input for the backward pass, which computes the block again: it takes
    a third more time, and little memory.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        rotary, local = config.positions == "rope", bool(config.local_rope_theta and config.window_layers)
        self.embed_tokens = Embedding(config.vocab_size, config.dim)
        self.embed_positions = None if rotary else Embedding(config.context, config.dim)
        self.rotary = Rotary(config, config.rope_theta) if rotary else None
        self.local_rotary = Rotary(without_rope_scaling(config), config.local_rope_theta) if rotary and local else None
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.norm = make_norm(config)

    def forward(self, ids_bt: Tensor, padding_b: Tensor | None = None, segments_bt: Tensor | None = None) -> Tensor:
        """Token ids to the vectors that the output projection reads, [b, t, d].

        padding_b: how many tokens at the left of each sequence are only padding. segments_bt: which packed example
        each token belongs to: they do not see each other, and each is computed as if it were alone; negative: padding.
        """
        if segments_bt is not None:
            return self.run(ids_bt, self._packed_context(segments_bt))
        length = ids_bt.shape[1]
        self._check_length(length)
        device = ids_bt.device
        longest = length
        if padding_b is not None and self.config.switch_length:
            longest -= int(padding_b.min())
        window_mask = causal_mask(length, self.config.window, padding_b, device) if self.config.window else None
        attn = self.attention_context(
            token_positions(length, padding_b, device), causal_mask(length, 0, padding_b, device), window_mask, longest
        )
        return self.run(ids_bt, attn)

    def _packed_context(self, segments_bt: Tensor) -> AttentionContext:
        """The context of packed rows. Raises `TinyslmError` for an example that is longer than the model reads."""
        spans = spans_of(segments_bt)
        longest = max((stop - start for _, start, stop in spans), default=1)
        self._check_length(longest)
        positions_bt = packed_positions(spans, segments_bt.shape, segments_bt.device)
        window = self.config.window
        window_mask = packed_mask(segments_bt, window) if window else None
        mask = packed_mask(segments_bt, 0) if self.config.attention_cap else None
        return self.attention_context(positions_bt, mask, window_mask, longest)._replace(spans=spans)

    def attention_context(
        self, positions_bt: Tensor, mask: Tensor | None, window_mask: Tensor | None, length: int
    ) -> AttentionContext:
        """The context of these positions, in sequences of `length` tokens in all."""
        cos_sin = self.rotary(positions_bt, length) if self.rotary else None
        local_cos_sin = self.local_rotary(positions_bt, length) if self.local_rotary else None
        return AttentionContext(positions_bt, mask, window_mask, cos_sin, local_cos_sin)

    def _check_length(self, length: int) -> None:
        if length > self.config.longest:
            raise TinyslmError(
                f"A sequence of {length} tokens does not fit this model's context of {self.config.longest}.",
                "Shorten the text, or train a model with a larger context (--model.context).",
            )

    def run(self, ids_bt: Tensor, attn: AttentionContext, cache: Cache | None = None) -> Tensor:
        """`forward` where it is known what the tokens see; with a past, they are new tokens behind it."""
        x_btd = self.embed_tokens(ids_bt)
        if self.config.embedding_scale != 1:
            x_btd = x_btd * self.config.embedding_scale
        if self.embed_positions is not None:
            x_btd = x_btd + self.embed_positions(attn.positions_bt)
        if self.config.dropout:
            x_btd = F.dropout(x_btd, self.config.dropout, self.training)
        for index, layer in enumerate(self.layers):
            if self.recompute and torch.is_grad_enabled():
                assert cache is None, "computed again, it would remember twice"
                x_btd = checkpoint(layer, x_btd, attn, None, use_reentrant=False)
            else:
                x_btd = layer(x_btd, attn, cache.layers[index] if cache else None)
        out: Tensor = self.norm(x_btd)
        return out


class Decoder(nn.Module):
    """A decoder-only transformer of the shape that `config` gives.

    drawn: with random initial weights (`reset`); otherwise they hold nothing yet, and take no memory.
    """

    def __init__(self, config: ModelConfig, *, drawn: bool = True) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = Linear(config.dim, config.vocab_size, bias=config.head_bias)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        if drawn:
            self.reset()

    def forward(self, ids_bt: Tensor, padding_b: Tensor | None = None) -> Tensor:
        """Token ids [b, t] to logits [b, t, v]; row t scores the token that follows position t.

        padding_b: how many tokens at the left of each sequence are only padding; their own logits mean nothing.
        Raises `TinyslmError` when the sequence is longer than the context.
        """
        return self.logits(self.model(ids_bt, padding_b))

    def logits(self, x_btd: Tensor) -> Tensor:
        """What the trunk computed, as scores of every token [..., v]."""
        return shaped(self.lm_head(x_btd), self.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._plain_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self._plain_weight.dtype

    @property
    def _plain_weight(self) -> Tensor:
        """A weight that every model has and none packs."""
        weight: Tensor = self.model.norm.weight  # type: ignore[assignment]
        return weight

    @torch.no_grad()
    def reset(self) -> None:
        """Draw new initial weights from torch's global generator.

        Normal with `init_std`; the products that write to the residual stream are divided by sqrt(2 * depth), so
        that its size does not grow with depth (as in GPT-2); biases zero, norms one.
        """
        into_stream = self.config.init_std / math.sqrt(2 * self.config.depth)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                writes = name.endswith(("o_proj", "down_proj"))
                nn.init.normal_(module.weight, std=into_stream if writes else self.config.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init_std)


def shaped(logits: Tensor, config: ModelConfig) -> Tensor:
    """The output projection's scores, divided and bent to stay within bounds where the config asks."""
    if config.logit_divisor != 1:
        logits = logits / config.logit_divisor
    if config.logit_cap:
        logits = torch.tanh(logits / config.logit_cap) * config.logit_cap
    return logits


def _same(x: Tensor) -> Tensor:
    return x


def new_model(config: ModelConfig) -> Decoder:
    """Random weights from torch's global generator; an output projection of its own begins at zero.

    All tokens are then equally likely at first, and no update is spent on unlearning random preferences: 0.3 to 0.8 %
    fewer bits after 500 updates (docs/LOG.md).
    """
    model = Decoder(config)
    if not config.tied:
        nn.init.zeros_(model.lm_head.weight)
    return model
