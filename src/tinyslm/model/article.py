"""The article's model with its four faults mended; `docs/the-article-corrected.md` shows each of them."""

from tinyslm.core.config import build_config
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder


class TinySLM(Decoder):
    """The article's `TinySLM`: learned positions, pre-norm blocks, GELU, an untied output projection.

    `TinySLM(vocab_size=30000)(ids)` maps token ids `[batch, seq]` (up to 512 tokens) to logits
    `[batch, seq, vocab_size]`. Unlike the printed code, attention goes over positions, is causal, is scaled by
    `head_dim ** -0.5`, and the feed-forward is `4 * dim` wide.
    """

    def __init__(self, vocab_size: int, dim: int = 256, depth: int = 8, heads: int = 4) -> None:
        shape = {"vocab_size": vocab_size, "dim": dim, "depth": depth, "heads": heads}
        super().__init__(build_config(ModelConfig, {"family": "tinyslm", **shape}, origin="TinySLM"))
