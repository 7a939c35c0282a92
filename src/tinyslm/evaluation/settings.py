"""How tasks are run. Imports nothing heavy: the command line reads it for its help."""

from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class EvaluationSettings(Section):
    """How tasks are run."""

    limit: int = Field(default=0, ge=0, description="At most so many examples of each task, from all over it; 0: all.")
    seeds: int = Field(default=1, gt=0, description="How often each item is answered, where answers are drawn.")
    bos: Literal["on", "off"] = Field(
        default="on", description="Whether the token that stands before texts in training stands before them here."
    )
    dtype: str = Field(default="fp32", description="Number format to compute in: fp32, or bf16 (a little less exact).")
    threads: int = Field(default=0, ge=0, description="Threads; 0: as OMP_NUM_THREADS says, or all cores.")
    stride: int | None = Field(
        default=None,
        description="Of long texts: how far windows move; by default the model's context, which is fastest. Less gives "
        "each token more to look back at.",
    )
    plugin: tuple[str, ...] = Field(default=(), description="A Python file that adds tasks, kinds or graders.")
