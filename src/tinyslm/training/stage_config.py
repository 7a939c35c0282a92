"""The settings of single stages. Imports no torch."""

from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class SftConfig(Section):
    """Supervised fine-tuning."""

    loss: Literal["cross_entropy", "dft"] = Field(
        default="cross_entropy",
        description="dft: each token's cross-entropy times its probability, which learns less from improbable tokens.",
    )


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


class GrpoConfig(Section):
    """How grpo samples answers and learns from their rewards."""

    loss: Literal["grpo", "dr_grpo", "dapo"] = Field(
        default="dapo",
        description="What the loss is a mean over: dapo: tokens; grpo: answers, each a mean over its tokens; dr_grpo: "
        "answers, each a sum over its tokens divided by max_tokens, with rewards that are not scaled.",
    )
    prompts: int = Field(default=4, gt=0, description="Prompts that are answered at a time.")
    group: int = Field(default=8, gt=1, description="Answers to each prompt; their rewards are compared.")
    updates: int = Field(default=1, gt=0, description="Updates from the answers that are sampled at a time.")
    max_tokens: int = Field(default=128, gt=0, description="Tokens of an answer, at most.")
    temperature: float = Field(default=1.0, gt=0, description="Temperature at which answers are sampled.")
    scale_rewards: Literal["auto", "group", "none"] = Field(
        default="auto",
        description="group: divide by the standard deviation in the group; none: do not; auto: none for dr_grpo.",
    )
    importance: Literal["token", "sequence"] = Field(
        default="token", description="Compare new and old probabilities of each token, or of whole answers (GSPO)."
    )
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="How far a probability ratio may fall below 1.")
    clip_high: float = Field(default=0.28, gt=0, description="How far a probability ratio may rise above 1.")
    kl: float = Field(default=0.0, ge=0, description="Weight of the divergence from the model at the start; 0: none.")
    skip_truncated: bool = Field(
        default=False, description="Do not learn from answers that reached max_tokens without ending."
    )
    grammar: str = Field(
        default="", description="A file that every answer must fit: a JSON schema (.json) or a Lark grammar (.lark)."
    )

    @property
    def scaled(self) -> bool:
        """Whether rewards are divided by their standard deviation in the group."""
        return self.scale_rewards == "group" or (self.scale_rewards == "auto" and self.loss != "dr_grpo")


class RejectionConfig(Section):
    """Which answers rejection sampling learns from; how they are sampled is up to `grpo`."""

    least_score: float = Field(default=1.0, gt=0, le=1, description="The lowest score of an answer that is learned.")
    time_share: float = Field(default=0.5, gt=0, lt=1, description="Share of the minutes spent on sampling, at most.")


class DistillConfig(Section):
    """Learning the predictions of another model, the teacher."""

    beta: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The divergence: 0: KL(teacher, student); 1: KL(student, teacher); between: generalised JSD.",
    )
    temperature: float = Field(default=1.0, gt=0, description="Divides the logits of both models.")
    on_policy: float = Field(
        default=0.0, ge=0, le=1, description="Share of the batches whose answers the student itself samples."
    )
    answer_tokens: int = Field(default=128, gt=0, description="Most tokens of a sampled answer.")
