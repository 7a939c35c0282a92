"""The shape of a model, in the article's words: `dim`, `heads`, `depth`, `vocab_size`.

Hugging Face's names (`hidden_size` and friends) appear only in `families/`.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tinyslm.core.config import Section
from tinyslm.core.errors import did_you_mean


class ModelConfig(Section):
    """Everything that decides a `Decoder`'s mathematics.

    What is not given follows from what is: the family's habits first, then `heads = dim / head_dim` (or
    `head_dim = dim / heads`), `kv_heads = heads / 2` where the family can group queries, and a feed-forward of 8/3
    (gated) or 4 times `dim`.
    """

    family: str = Field(default="qwen3", description="Architecture: qwen3, llama, gpt2 or tinyslm.")
    vocab_size: int = Field(default=4096, gt=0, description="Number of token ids; the tokenizer decides it.")
    dim: int = Field(default=256, gt=0, description="Width of the residual stream.")
    depth: int = Field(default=4, gt=0, description="Number of blocks.")
    heads: int = Field(default=0, gt=0, description="Number of query heads (unless given: dim / head_dim).")
    kv_heads: int = Field(
        default=0, gt=0, description="Number of key and value heads (unless given: half of heads, or heads)."
    )
    head_dim: int = Field(default=0, gt=0, description="Width of one head (unless given: dim / heads, or 64).")
    ffn_dim: int = Field(
        default=0, gt=0, description="Inner width of the feed-forward (unless given: 8/3 or 4 times dim)."
    )
    context: int = Field(default=256, gt=0, description="Longest sequence in tokens.")
    norm: Literal["rms", "layer"] = Field(default="rms", description="RMSNorm, or LayerNorm with a bias.")
    norm_eps: float = Field(default=1e-6, gt=0, description="Added to the variance before its root is taken.")
    feed_forward: Literal["swiglu", "gelu", "gelu_tanh"] = Field(
        default="swiglu", description="The kind of feed-forward."
    )
    positions: Literal["rope", "learned"] = Field(default="rope", description="Rotary or learned positions.")
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary frequencies.")
    qk_norm: bool = Field(default=False, description="Normalise the queries and keys of each head.")
    attention_bias: bool = Field(default=False, description="Biases in the query, key and value products.")
    output_bias: bool = Field(default=False, description="A bias in the attention's output product.")
    ffn_bias: bool = Field(default=False, description="Biases in the feed-forward's products.")
    tied: bool = Field(default=True, description="Use the token embedding as the output projection too.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of activations dropped in training.")
    init_std: float = Field(default=0.02, gt=0, description="Standard deviation of the initial weights.")

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
        gated = given.get("feed_forward", "swiglu") == "swiglu"
        ffn_dim = _round_up(dim * 8 // 3, 64) if gated else 4 * dim
        # Grouped queries where the architecture can say so: two query heads share their keys and values.
        kv_heads = heads // 2 if "kv_heads" in family.keys and heads % 2 == 0 else heads
        return {"heads": heads, "head_dim": head_dim, "kv_heads": kv_heads, "ffn_dim": ffn_dim, **given}

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
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even for rotary positions")
        FAMILIES[self.family].check(self)
        return self

    @property
    def parameters(self) -> int:
        """Number of trained values, from the shape alone."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        norm = self.dim * (2 if self.norm == "layer" else 1)
        attention = self.dim * (q + 2 * kv) + q * self.dim
        attention += (q + 2 * kv) * self.attention_bias + self.dim * self.output_bias + 2 * self.head_dim * self.qk_norm
        gated = self.feed_forward == "swiglu"
        ffn = (3 if gated else 2) * self.dim * self.ffn_dim
        ffn += (self.ffn_dim * (2 if gated else 1) + self.dim) * self.ffn_bias
        tables = self.vocab_size * (1 if self.tied else 2) + self.context * (self.positions == "learned")
        return tables * self.dim + self.depth * (attention + ffn + 2 * norm) + norm


def _whole(value: Any) -> int | None:
    """A positive whole number, also when written as text; `None` for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
