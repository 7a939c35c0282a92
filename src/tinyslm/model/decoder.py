"""The model: a stack of pre-norm blocks over token embeddings, ending in logits.

Modules carry the names that Llama and Qwen have in Hugging Face folders, so that for these families loading is the
identity; `families/` holds the renaming for the others.

Shape legend: b batch, t sequence, d dim, v vocab_size.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyslm.core.errors import TinyslmError
from tinyslm.model.attention import Attention, LayerCache
from tinyslm.model.config import ModelConfig
from tinyslm.model.feed_forward import make_feed_forward
from tinyslm.model.norm import make_norm
from tinyslm.model.rotary import Rotary


class Cache(Protocol):
    """The past of a batch of sequences: how long it is, and each layer's keys and values."""

    @property
    def length(self) -> int:
        """Number of tokens seen so far; the next one stands at this position."""

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One cache for each block."""


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = make_norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = make_feed_forward(config)
        self.dropout = config.dropout

    def forward(self, x_btd: Tensor, rotary: Rotary | None, start: int, cache: LayerCache | None) -> Tensor:
        """[b, t, d] to the same."""
        x_btd = x_btd + self._drop(self.self_attn(self.input_layernorm(x_btd), rotary, start, cache))
        return x_btd + self._drop(self.mlp(self.post_attention_layernorm(x_btd)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Trunk(nn.Module):
    """Embeddings, blocks and the final norm: everything but the output projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.dim)
        self.embed_positions = nn.Embedding(config.context, config.dim) if config.positions == "learned" else None
        self.rotary = Rotary(config.head_dim, config.context, config.rope_theta) if config.positions == "rope" else None
        self.layers = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = make_norm(config)

    def forward(self, ids_bt: Tensor, cache: Cache | None = None) -> Tensor:
        """Token ids to the vectors that the output projection reads, [b, t, d]."""
        start = cache.length if cache else 0
        stop = start + ids_bt.shape[1]
        if stop > self.config.context:
            raise TinyslmError(
                f"A sequence of {stop} tokens does not fit this model's context of {self.config.context}.",
                "Shorten the text, or train a model with a larger context (--model.context).",
            )
        x_btd = self.embed_tokens(ids_bt)
        if self.embed_positions is not None:
            x_btd = x_btd + self.embed_positions.weight[start:stop]
        if self.config.dropout:
            x_btd = F.dropout(x_btd, self.config.dropout, self.training)
        for index, layer in enumerate(self.layers):
            x_btd = layer(x_btd, self.rotary, start, cache.layers[index] if cache else None)
        out: Tensor = self.norm(x_btd)
        return out


class Decoder(nn.Module):
    """A decoder-only transformer of the shape that `config` gives."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.reset()

    def forward(self, ids_bt: Tensor, cache: Cache | None = None) -> Tensor:
        """Token ids [b, t] to logits [b, t, v]; row t scores the token that follows position t.

        Raises `TinyslmError` when the sequence (the cached past included) is longer than the context.
        """
        logits_btv: Tensor = self.lm_head(self.model(ids_bt, cache))
        return logits_btv

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
