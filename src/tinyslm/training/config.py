"""The settings of a run: every value that decides its result, in sections."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tinyslm.core.config import Section
from tinyslm.data.config import DataConfig
from tinyslm.model.config import ModelConfig
from tinyslm.model.lora_config import LoraConfig
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.stage_config import (
    DistillConfig,
    DpoConfig,
    GrpoConfig,
    RejectionConfig,
    ReplayConfig,
    SftConfig,
    VerdictConfig,
)


class OptimizerConfig(Section):
    """How weights follow gradients."""

    name: Literal["muon", "adamw"] = Field(
        default="muon", description="muon: Muon for the matrices in blocks, AdamW for the rest; adamw: AdamW for all."
    )
    muon_lr: float = Field(default=0.02, gt=0, description="Muon's peak learning rate.")
    muon_momentum: float = Field(default=0.9, ge=0, lt=1, description="Muon's momentum.")
    lr: float = Field(default=0.004, gt=0, description="AdamW's peak learning rate.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the mean gradient.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's decay of the mean squared gradient.")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Decoupled decay of matrices; norms and biases have none."
    )
    clip: float = Field(default=1.0, ge=0, description="Largest norm of the whole gradient; 0: no clipping.")


class ScheduleConfig(Section):
    """How the learning rate moves: linear warm-up, stable, linear decay to a final share."""

    warmup: float = Field(default=0.02, ge=0, le=1, description="Share of the steps spent warming up.")
    decay: float = Field(default=0.6, ge=0, le=1, description="Share of the steps, at the end, spent decaying.")
    final: float = Field(default=0.0, ge=0, le=1, description="Learning rate at the end, as a share of the peak.")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup ({self.warmup}) and decay ({self.decay}) together exceed 1")
        return self


USUAL_MINUTES = 10.0
_SWITCH: dict[bool | str, str] = {True: "on", False: "off", "true": "on", "false": "off"}


class LoopConfig(Section):
    """How long and with what batches to train, and what to do on the way.

    A run has one measure of its length: `steps`, `tokens`, or `minutes` (10, where none is given).
    """

    one_of: ClassVar[tuple[str, ...]] = ("steps", "tokens", "minutes")

    steps: int = Field(default=0, ge=0, description="Number of updates; 0: follows from `tokens` or `minutes`.")
    tokens: int = Field(default=0, ge=0, description="Training tokens to read, to the next whole update; 0: not given.")
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="Time for the whole run, from preparing the text to the report; 10 where nothing else is given.",
    )
    stage: str = Field(
        default="pretrain",
        description="What is learned: pretrain (the next token), distill_text, sft (answers), distill_answers, dpo "
        "(preferences) or grpo (rewards).",
    )
    start_from: str = Field(
        default="", description="A model folder to go on from, with its shape and tokenizer; none: a new model."
    )
    teacher: str = Field(
        default="", description="For distill_text and distill_answers: the model folder whose predictions are learned."
    )
    grader: str = Field(
        default="",
        description="Scores answers from 0 to 1, for the verdict and as the reward of grpo: the name of a grader, or "
        "FILE.py:FUNCTION.",
    )
    batch: int = Field(default=16, gt=0, description="Sequences in one update.")
    row_tokens: int = Field(
        default=0, ge=0, description="Tokens of a row of text, packed conversations or pairs; 0: the model's context."
    )
    micro_batch: int = Field(default=0, ge=0, description="Sequences computed at once; 0: the whole batch.")
    seed: int = Field(default=1, ge=0, description="Decides initial weights, dropout and the order of the data.")
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="torch.compile: on, off, or auto: on where it is faster, tried in long runs where it could be.",
    )
    checkpoint_activations: bool = Field(
        default=False, description="Compute each block again in the backward pass: slower, with much less memory."
    )
    shard: Literal["auto", "none", "full"] = Field(
        default="auto",
        description="With several processes: every one has all weights (none), or a part of them (full); auto: a part "
        "where all do not fit into its memory.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or mps.")
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Type of the products; auto: bf16 where the hardware has it, else fp32."
    )
    log_every: int = Field(default=10, gt=0, description="Steps between two rows of the log.")
    validate_every: int = Field(default=0, ge=0, description="Steps between two validations; 0: ten in the whole run.")
    validation_tokens: int = Field(
        default=0,
        ge=0,
        description="Validation tokens looked at on the way; 0: 32,768, or fewer where `minutes` are few.",
    )
    score_tokens: int = Field(
        default=0,
        ge=0,
        description="Validation tokens of the final score, about; 0: a million, or what a tenth of `minutes` allows.",
    )
    sample_every: int = Field(
        default=0, ge=0, description="Steps between two samples of text; 0: five in the whole run."
    )
    checkpoint_minutes: float = Field(
        default=1.0, ge=0, description="Minutes between two checkpoints; 0: after every step."
    )
    keep: int = Field(default=2, gt=0, description="Newest checkpoints to keep, besides the best.")
    snapshots: int = Field(
        default=0,
        ge=0,
        description="Weights to keep on the way in RUN/snapshots, closer together at the start; 0: none.",
    )
    sinks: tuple[str, ...] = Field(default=(), description="Where else to send the log: tensorboard, trackio.")

    @field_validator("compile", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        """`true` and `false` are on and off."""
        return _SWITCH.get(value, value) if isinstance(value, (bool, str)) else value

    @model_validator(mode="before")
    @classmethod
    def _usual_length(cls, values: Any) -> Any:
        """Fill in the minutes where no length is given."""
        if isinstance(values, Mapping) and all(values.get(key) in (None, 0, "0") for key in ("steps", "tokens")):
            return {**values, "minutes": USUAL_MINUTES if values.get("minutes") is None else values["minutes"]}
        return values

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if sum(map(bool, (self.steps, self.tokens, self.minutes))) > 1:
            given = [f"{key} ({getattr(self, key)})" for key in self.one_of if getattr(self, key)]
            raise ValueError(f"{' and '.join(given)} exclude each other: a run has one measure of its length")
        return self

    @model_validator(mode="after")
    def _teacher_given(self) -> Self:
        if self.stage in ("distill_text", "distill_answers") and not self.teacher:
            raise ValueError(f"the stage {self.stage} needs a teacher: give a model folder with --train.teacher")
        if self.stage == "grpo" and not self.grader:
            raise ValueError("the stage grpo needs a grader: give its name or FILE.py:FUNCTION with --train.grader")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.micro_batch and self.batch % self.micro_batch:
            raise ValueError(f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch})")
        return self


class RunConfig(Section):
    """All settings of `tinyslm train`."""

    model: ModelConfig = Field(default=ModelConfig(dropout=0.0), description="The model's shape.")
    tokenizer: TokenizerConfig = Field(
        default=TokenizerConfig(), description="The tokenizer to train, unless one is given."
    )
    data: DataConfig = Field(default=DataConfig(), description="Reading, cleaning and splitting text.")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="How weights follow gradients.")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="How the learning rate moves.")
    lora: LoraConfig = Field(default=LoraConfig(), description="Adapters, where only these are trained.")
    sft: SftConfig = Field(default=SftConfig(), description="The stage sft: learning answers.")
    distill: DistillConfig = Field(default=DistillConfig(), description="The stages distill_text and distill_answers.")
    dpo: DpoConfig = Field(default=DpoConfig(), description="The stage dpo: learning from preferences.")
    rejection: RejectionConfig = Field(default=RejectionConfig(), description="What rejection sampling keeps.")
    replay: ReplayConfig = Field(default=ReplayConfig(), description="General text among the examples.")
    verdict: VerdictConfig = Field(default=VerdictConfig(), description="What fine-tuning is judged by.")
    grpo: GrpoConfig = Field(default=GrpoConfig(), description="How grpo samples answers and learns from rewards.")
    train: LoopConfig = Field(default=LoopConfig(), description="How long and with what batches to train.")

    @property
    def row_tokens(self) -> int:
        """Tokens of each sequence of a batch, at most."""
        return self.train.row_tokens or self.model.context

    @model_validator(mode="after")
    def _preferences_have_a_reference(self) -> Self:
        if self.train.stage == "dpo" and not self.train.start_from:
            raise ValueError("the stage dpo needs a model to start from: give its folder with --train.start_from")
        return self

    @model_validator(mode="after")
    def _replay_is_for_sft(self) -> Self:
        if self.replay.share and self.train.stage != "sft":
            raise ValueError(f"replay.share is for the stage sft, not for {self.train.stage}")
        if self.replay.text and not self.replay.share:
            raise ValueError("replay.text needs a share of the rows: give --replay.share 0.1")
        return self

    @model_validator(mode="after")
    def _samples_have_prompts(self) -> Self:
        if self.distill.on_policy and self.train.stage == "distill_text":
            raise ValueError("distill.on_policy needs conversations: use tinyslm finetune --method distill")
        return self

    @model_validator(mode="after")
    def _base_is_given(self) -> Self:
        if self.lora.rank and not self.train.start_from:
            raise ValueError("lora.rank needs a model to adapt: give its folder with --train.start_from")
        if self.grpo.kl and not self.train.start_from:
            raise ValueError("grpo.kl needs a model to stay near: give its folder with --train.start_from")
        return self
