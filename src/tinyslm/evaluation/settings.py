"""Settings of task evaluation. Imports nothing heavy: the command line reads them for its help."""

from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class EvaluationSettings(Section):
    """Settings of task evaluation."""

    limit: int = Field(
        default=0, ge=0, description="Maximum number of examples per task, spread evenly over it; 0: all."
    )
    seeds: int = Field(default=1, gt=0, description="How often to answer each item, where answers are sampled.")
    bos: Literal["on", "off"] = Field(
        default="on", description="Whether to prefix each text with the token that precedes texts in training."
    )
    dtype: str = Field(
        default="fp32", description="Number format of the computation: fp32, or bf16 (slightly less exact)."
    )
    threads: int = Field(
        default=0, ge=0, description="Number of CPU threads; 0: the value of OMP_NUM_THREADS, or all cores."
    )
    constrained: bool = Field(
        default=False,
        description="Answers must follow the grammars of the tasks that have one, such as those of packs.",
    )
    stride: int | None = Field(
        default=None,
        description="For long texts: tokens by which the window advances; by default the model's context, which is "
        "fastest. A smaller stride gives each token more context.",
    )
    plugin: tuple[str, ...] = Field(default=(), description="A Python file that adds tasks, kinds or graders.")
