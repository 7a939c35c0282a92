"""The settings of single stages. Imports no torch."""

from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class DpoConfig(Section):
    """Learning from preferences (DPO)."""

    loss: Literal["sigmoid", "ipo", "sigmoid_norm"] = Field(
        default="sigmoid",
        description="sigmoid: DPO; ipo: a squared loss with a target for the margin; sigmoid_norm: DPO per token.",
    )
    beta: float = Field(
        default=0.0,
        ge=0,
        description="How strongly the model is held to the base; 0: 0.1 for sigmoid and ipo, 5 for sigmoid_norm.",
    )
    rpo_alpha: float = Field(
        default=0.0, ge=0, description="Weight of an added cross-entropy of the chosen answers, per token; 0: none."
    )


class ReplayConfig(Section):
    """General text among the examples of fine-tuning, against forgetting."""

    share: float = Field(
        default=0.0, ge=0, le=0.9, description="Share of the rows of the batches that are general text, for sft."
    )
    text: tuple[str, ...] = Field(
        default=(),
        description="Files of general text; by default the documentation in the Python standard library.",
    )


class VerdictConfig(Section):
    """What a fine-tuned model is compared with its base on."""

    general: tuple[str, ...] = Field(
        default=(), description="Files of general text that the model should not get worse at; by default a short set."
    )
    questions: int = Field(
        default=64, gt=0, description="Held-out questions that both models answer, if `train.grader` is set, at most."
    )
