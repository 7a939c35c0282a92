"""The settings of LoRA adapters. Imports no torch."""

import math

from pydantic import Field

from tinyslm.core.config import Section


class LoraConfig(Section):
    """LoRA adapters of a frozen model."""

    rank: int = Field(default=0, ge=0, description="Rank of the adapters; 0: no adapters, all weights are trained.")
    alpha: float = Field(default=32.0, gt=0, description="The update is scaled by alpha / rank.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout probability of an adapter's inputs in training."
    )
    targets: tuple[str, ...] = Field(
        default=(),
        description="Names of the linear layers that get an adapter, such as q_proj; none: all in the blocks.",
    )
    token_rows: tuple[int, ...] = Field(
        default=(),
        description="Ids of tokens whose rows in the token tables are trained beside the adapters; `tinyslm finetune` "
        "sets them if it adds tokens.",
    )
    rank_stabilised: bool = Field(default=False, description="Scale by alpha / sqrt(rank) instead.")
    dora: bool = Field(default=False, description="Also learn the magnitude of each row of the weights (DoRA).")

    @property
    def scale(self) -> float:
        """The factor s of the update s B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)
