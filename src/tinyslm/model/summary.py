"""Where a model's parameters are."""

from dataclasses import dataclass

from tinyslm.model.config import GATED, ModelConfig


@dataclass(frozen=True)
class Part:
    """One kind of weights: how they are shaped, and how many values they are over all blocks."""

    name: str
    shape: str
    values: int


def parts(config: ModelConfig) -> list[Part]:
    """The parts of a model of this shape; their values add up to `config.parameters`."""
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    gated = config.feed_forward in GATED
    matrices = 3 if gated else 2
    found = [
        Part("token embedding", f"{config.vocab_size:,} x {config.dim}", config.vocab_size * config.dim),
        Part(
            "attention",
            f"{config.depth} x ({config.dim} x {q + 2 * kv} + {q} x {config.dim})",
            config.depth * config.dim * (2 * q + 2 * kv),
        ),
        Part(
            "feed-forward",
            f"{config.depth} x {matrices} x {config.dim} x {config.ffn_dim}",
            config.depth * matrices * config.dim * config.ffn_dim,
        ),
    ]
    if config.positions == "learned":
        found.insert(1, Part("positions", f"{config.context} x {config.dim}", config.context * config.dim))
    if not config.tied:
        found.append(Part("output projection", f"{config.vocab_size:,} x {config.dim}", config.vocab_size * config.dim))
    rest = config.parameters - sum(part.values for part in found)
    return [*found, Part("norms and biases", "", rest)]
