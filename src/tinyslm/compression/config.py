"""The settings of `quantize`."""

from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class QuantizeConfig(Section):
    """In how many bits, and with what text to make up for what that loses."""

    scheme: str = Field(
        default="int4",
        description="int4 (4.5 bits a weight with its scales), int8, or int4-mixed: token table, output projection "
        "and value projections in 8 bits.",
    )
    group_size: Literal[32, 64, 128] = Field(
        default=32, description="How many values share a scale in 4 bits; larger groups take less room and lose more."
    )
    method: Literal["auto", "rtn", "gptq"] = Field(
        default="auto",
        description="rtn: round to nearest; gptq: round so that the layers' outputs stay, on text; auto: gptq where "
        "there is text.",
    )
    calibrate: tuple[str, ...] = Field(
        default=(),
        description="Text like that which the model is for, to measure which weights matter (unless given: --data).",
    )
    data: tuple[str, ...] = Field(
        default=(), description="Text to fine-tune on, or one shards folder (unless given: --calibrate)."
    )
    valid: tuple[str, ...] = Field(
        default=(), description="Held-out text to judge by (unless given: a share of the other text's documents)."
    )
    finetune: float = Field(
        default=0.0,
        ge=0,
        description="Minutes of training with rounded weights towards the original's predictions; Ctrl-C ends it early "
        "and keeps the best so far.",
    )
    judge_tokens: int = Field(
        default=0,
        ge=0,
        description="Held-out tokens to evaluate on, about; 0: as many as take about a minute, at most 50,000.",
    )
    seed: int = Field(default=1, ge=0, description="Decides the order of the text.")
