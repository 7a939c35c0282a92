"""The settings of LoRA adapters. Imports no torch."""

import math

from pydantic import Field

from tinyslm.core.config import Section


class LoraConfig(Section):
    """Adapters of a frozen model."""

    rank: int = Field(default=0, ge=0, description="Rank of the adapters; 0: no adapters, all weights are trained.")
    alpha: float = Field(default=32.0, gt=0, description="The update is scaled by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of an adapter's inputs that training drops.")
    targets: tuple[str, ...] = Field(
        default=(), description="Names of the linear layers that get one, such as q_proj; none: all of the blocks."
    )
    rank_stabilised: bool = Field(default=False, description="Scale by alpha / sqrt(rank) instead.")
    dora: bool = Field(default=False, description="Learn the length of each row of the weights too (DoRA).")

    @property
    def scale(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)
