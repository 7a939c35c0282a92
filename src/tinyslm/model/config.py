"""The shape of a model, in the article's words: `dim`, `heads`, `depth`, `vocab_size`.

Hugging Face's names (`hidden_size` and friends) appear only in `families/`.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tinyslm.core.config import Section
from tinyslm.core.errors import did_you_mean

GATED = ("swiglu", "geglu")


class RopeScaling(Section):
    """How rotary frequencies are changed so that a model reads further than it was trained for."""

    kind: Literal["none", "linear", "dynamic", "llama3", "yarn", "longrope"] = Field(
        default="none", description="The method: none, linear, dynamic (NTK), llama3, yarn or longrope."
    )
    factor: float = Field(default=1.0, ge=1, description="How many times the original context is stretched.")
    original_context: int = Field(default=0, ge=0, description="Context that the model was trained for (0: context).")
    low_freq_factor: float = Field(default=1.0, gt=0, description="llama3: slower waves than this are stretched.")
    high_freq_factor: float = Field(default=4.0, gt=0, description="llama3: faster waves than this are kept.")
    beta_fast: float = Field(default=32.0, gt=0, description="yarn: faster waves than this are kept.")
    beta_slow: float = Field(default=1.0, gt=0, description="yarn: slower waves than this are stretched.")
    attention_factor: float = Field(
        default=0.0,
        ge=0,
        description="yarn, longrope: what queries and keys are multiplied by (0: follows from factor).",
    )
    mscale: float = Field(default=0.0, ge=0, description="yarn: weight of the numerator of that factor.")
    mscale_all_dim: float = Field(default=0.0, ge=0, description="yarn: weight of the denominator of that factor.")
    truncate: bool = Field(default=True, description="yarn: round the bounds of the ramp to whole dimensions.")
    short_factor: tuple[float, ...] = Field(
        default=(), description="longrope: divisor of each frequency in texts of up to original_context tokens."
    )
    long_factor: tuple[float, ...] = Field(
        default=(), description="longrope: divisor of each frequency in longer texts."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor ({self.high_freq_factor}) must be more than low_freq_factor ({self.low_freq_factor})"
            )
        if self.kind == "longrope" and self.original_context == 1:
            raise ValueError("original_context must be more than 1 with longrope (given: 1)")
        wrong = [value for value in (*self.short_factor, *self.long_factor) if not 0 < value < math.inf]
        if wrong:
            raise ValueError(f"short_factor and long_factor must be positive numbers (given: {wrong[0]})")
        return self


WIDE_ENOUGH_TO_GROUP = 384
"""Narrower models score 0.5 % worse with half as many keys and values, and are as fast (docs/LOG.md)."""


class ModelConfig(Section):
    """Everything that decides a `Decoder`'s mathematics.

    What is not given follows from what is: the family's habits first, then `heads = dim / head_dim` (or
    `head_dim = dim / heads`), `kv_heads = heads / 2` where the family can group queries and the model is wide enough,
    and a feed-forward of 8/3 (gated) or 4 times `dim`.
    """

    family: str = Field(
        default="qwen3",
        description="Architecture: qwen3, llama, mistral, qwen2, smollm3, granite, granitemoehybrid, olmo2, olmo3, "
        "gemma2, gemma3, phi, phi3, stablelm, gpt_neox, gpt_neo, opt, gpt2 or tinyslm.",
    )
    vocab_size: int = Field(default=4096, gt=0, description="Number of token ids; the tokenizer decides it.")
    dim: int = Field(default=256, gt=0, description="Width of the residual stream.")
    depth: int = Field(default=4, gt=0, description="Number of blocks.")
    heads: int = Field(default=0, gt=0, description="Number of query heads (unless given: dim / head_dim).")
    kv_heads: int = Field(
        default=0,
        gt=0,
        description="Number of key and value heads (unless given: heads; half of them from dim 384 on).",
    )
    head_dim: int = Field(default=0, gt=0, description="Width of one head (unless given: dim / heads, or 64).")
    ffn_dim: int = Field(
        default=0, gt=0, description="Inner width of the feed-forward (unless given: 8/3 or 4 times dim)."
    )
    context: int = Field(default=256, gt=0, description="Longest sequence in tokens.")
    norm: Literal["rms", "layer"] = Field(default="rms", description="RMSNorm, or LayerNorm with a bias.")
    norm_eps: float = Field(default=1e-6, gt=0, description="Added to the variance before its root is taken.")
    norm_offset: bool = Field(default=False, description="Norms scale by one plus their weight.")
    norm_place: Literal["before", "after", "both"] = Field(
        default="before", description="Norms stand before attention and feed-forward, after them, or both."
    )
    residual: Literal["serial", "parallel", "parallel_one_norm"] = Field(
        default="serial",
        description="The feed-forward reads what attention wrote, or the same as attention (with a norm of its own, "
        "or one for both).",
    )
    feed_forward: Literal["swiglu", "geglu", "gelu", "gelu_tanh", "relu"] = Field(
        default="swiglu", description="The kind of feed-forward."
    )
    positions: Literal["rope", "learned"] = Field(default="rope", description="Rotary or learned positions.")
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary frequencies.")
    local_rope_theta: float = Field(
        default=0.0, ge=0, description="Base of the rotary frequencies in windowed blocks (0: the same)."
    )
    rotary_share: float = Field(default=1.0, gt=0, le=1, description="Share of each head that is turned.")
    unrotated_layers: tuple[int, ...] = Field(
        default=(), description="Blocks (from 0) whose attention has no positions."
    )
    window: int = Field(default=0, ge=0, description="How many tokens windowed blocks see (0: no windows).")
    window_layers: tuple[int, ...] = Field(
        default=(), description="Blocks (from 0) that see only a window (unless given: all, when there is a window)."
    )
    qk_norm: bool = Field(default=False, description="Normalise queries and keys.")
    qk_norm_over: Literal["head", "all"] = Field(
        default="head", description="Normalise queries and keys head by head, or all heads as one vector."
    )
    attention_scale: float = Field(
        default=0.0, ge=0, description="What products of queries and keys are multiplied by (0: head_dim ** -0.5)."
    )
    attention_cap: float = Field(
        default=0.0,
        ge=0,
        description="Soft cap on attention scores: cap * tanh(score / cap); 0: none.",
    )
    attention_bias: bool = Field(default=False, description="Biases in the query, key and value products.")
    output_bias: bool = Field(default=False, description="A bias in the attention's output product.")
    ffn_bias: bool = Field(default=False, description="Biases in the feed-forward's products.")
    head_bias: bool = Field(default=False, description="A bias in the output projection.")
    tied: bool = Field(default=True, description="Use the token embedding as the output projection too.")
    embedding_scale: float = Field(default=1.0, gt=0, description="What token embeddings are multiplied by.")
    residual_scale: float = Field(default=1.0, gt=0, description="What is added to the stream is multiplied by this.")
    logit_divisor: float = Field(default=1.0, gt=0, description="What logits are divided by.")
    logit_cap: float = Field(default=0.0, ge=0, description="Soft cap on logits: cap * tanh(logit / cap); 0: none.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of activations dropped in training.")
    init_std: float = Field(default=0.02, gt=0, description="Standard deviation of the initial weights.")
    rope_scaling: RopeScaling = Field(default=RopeScaling(), description="How rotary frequencies are stretched.")

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, values: Any) -> Any:
        """Fill in what was not given; leaves anything odd for the fields' own checks to report."""
        if not isinstance(values, Mapping):
            return values
        # The families import this module, so they are looked up when a config is made.
        from tinyslm.model.families import FAMILIES

        name = str(values.get("family", "qwen3"))
        family = FAMILIES[name if name in FAMILIES else "qwen3"]
        given = {**family.fixed, **family.defaults, **values}
        dim, heads, head_dim = (_whole(given.get(key)) for key in ("dim", "heads", "head_dim"))
        dim = dim or 256
        if heads and not head_dim:
            head_dim = max(1, dim // heads)  # whether it divides is checked below, with everything else
        head_dim = head_dim or min(64, dim)
        if not heads and dim % head_dim:
            raise ValueError(f"dim ({dim}) must be a multiple of head_dim ({head_dim}), or heads must be given")
        heads = heads or dim // head_dim
        gated = given.get("feed_forward", "swiglu") in GATED
        ffn_dim = _round_up(dim * 8 // 3, 64) if gated else 4 * dim
        # Grouped queries where the architecture can say so: two query heads share their keys and values.
        grouped = "kv_heads" in family.keys and heads % 2 == 0 and dim >= WIDE_ENOUGH_TO_GROUP
        kv_heads = heads // 2 if grouped else heads
        depth = _whole(given.get("depth", 4)) or 4
        shape = {"heads": heads, "head_dim": head_dim, "kv_heads": kv_heads, "ffn_dim": ffn_dim}
        habits = family.habits(dim, depth)
        windowed = {"window_layers": habits.get("window_layers", tuple(range(depth)))}
        if not _whole(given.get("window", habits.get("window"))):
            windowed = {"window": 0, "window_layers": ()}
        return {**shape, **habits, **windowed, **given, "rope_scaling": _with_original(given)}

    @field_validator("family")
    @classmethod
    def _known(cls, name: str) -> str:
        from tinyslm.model.families import FAMILIES

        if name not in FAMILIES:
            raise ValueError(f'there is no family "{name}". {did_you_mean(name, FAMILIES)}')
        return name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        from tinyslm.model.families import FAMILIES

        if self.dim % self.heads and self.head_dim == self.dim // self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.positions == "rope" and self.rotary_dim % 2:
            what = "head_dim" if self.rotary_share == 1 else "head_dim times rotary_share"
            raise ValueError(f"{what} ({self.rotary_dim}) must be even for rotary positions")
        if self.rope_scaling.kind == "longrope":
            counts = {len(self.rope_scaling.short_factor), len(self.rope_scaling.long_factor)}
            if counts != {self.rotary_dim // 2}:
                raise ValueError(
                    f"longrope takes {self.rotary_dim // 2} values each for short_factor and long_factor "
                    f"(given: {len(self.rope_scaling.short_factor)} and {len(self.rope_scaling.long_factor)})"
                )
        if self.window_layers and not self.window:
            raise ValueError("window_layers are given, but no window")
        for key in ("window_layers", "unrotated_layers"):
            wrong = [layer for layer in getattr(self, key) if not 0 <= layer < self.depth]
            if wrong:
                raise ValueError(f"{key} names block {wrong[0]}; there are blocks 0 to {self.depth - 1}")
        FAMILIES[self.family].check(self)
        return self

    @property
    def parameters(self) -> int:
        """Number of trained values, from the shape alone."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.dim * (q + 2 * kv) + q * self.dim
        attention += (q + 2 * kv) * self.attention_bias + self.dim * self.output_bias
        if self.qk_norm:
            attention += 2 * self.head_dim if self.qk_norm_over == "head" else q + kv
        gated = self.feed_forward in GATED
        ffn = (3 if gated else 2) * self.dim * self.ffn_dim
        ffn += (self.ffn_dim * (2 if gated else 1) + self.dim) * self.ffn_bias
        norm = self.dim * (2 if self.norm == "layer" else 1)
        norms = 4 if self.norm_place == "both" else 1 if self.residual == "parallel_one_norm" else 2
        tables = self.vocab_size * (1 if self.tied else 2) + self.context * (self.positions == "learned")
        ends = tables * self.dim + norm + self.vocab_size * self.head_bias
        return ends + self.depth * (attention + ffn + norms * norm)

    @property
    def longest(self) -> int:
        """Longest sequence in tokens, with what stretched rotary frequencies add to the context."""
        if self.rope_scaling.kind in ("none", "longrope"):
            return self.context
        return max(self.context, int((self.rope_scaling.original_context or self.context) * self.rope_scaling.factor))

    @property
    def cached_values(self) -> int:
        """Keys and values of all blocks in the KV cache, for each token."""
        return 2 * self.depth * self.kv_heads * self.head_dim

    @property
    def switch_length(self) -> int:
        """With longrope, the longest text, in tokens, that takes the short factors; 0 if no text can be longer."""
        scaling = self.rope_scaling
        original = scaling.original_context if scaling.kind == "longrope" else 0
        return original if original < self.context else 0

    @property
    def rotary_dim(self) -> int:
        """How many values of each head are turned."""
        return int(self.head_dim * self.rotary_share)

    @property
    def query_scale(self) -> float:
        """What products of queries and keys are multiplied by."""
        return self.attention_scale or self.head_dim**-0.5


def _with_original(given: Mapping[str, Any]) -> Any:
    """Scaled positions with their original context: the model's own unless given."""
    scaling = given.get("rope_scaling", {})
    values = scaling.model_dump() if isinstance(scaling, RopeScaling) else scaling
    if not isinstance(values, Mapping) or values.get("kind") not in ("llama3", "yarn", "longrope"):
        return scaling
    return {**values, "original_context": values.get("original_context") or given.get("context", 256)}


def _whole(value: Any) -> int | None:
    """A positive whole number, also when written as text; `None` for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
