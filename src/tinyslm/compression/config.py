"""The settings of `quantize`."""

from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class QuantizeConfig(Section):
    """The number of bits, and the text that makes up for the loss."""

    scheme: str = Field(
        default="int4",
        description="int4 (4.5 bits a weight with its scales), int8, or int4-mixed: output projection and value "
        "projections in 8 bits.",
    )
    group_size: Literal[32, 64, 128] = Field(
        default=32, description="How many values share a scale in 4 bits; larger groups take less space and lose more."
    )
    method: Literal["auto", "rtn", "gptq"] = Field(
        default="auto",
        description="rtn: round to nearest; gptq: round so that the layers' outputs change least on a text; auto: gptq "
        "if there is a text.",
    )
    calibrate: tuple[str, ...] = Field(
        default=(),
        description="Text like that which the model is for, to measure which weights matter (default: --data).",
    )
    data: tuple[str, ...] = Field(
        default=(),
        description="Text to fine-tune on, or one folder of prepared data (default: --calibrate, or what the "
        "model's run learned from).",
    )
    valid: tuple[str, ...] = Field(
        default=(), description="Held-out text to evaluate on (default: a share of the other text's documents)."
    )
    finetune: float = Field(
        default=0.0,
        ge=0,
        description="Minutes of training with rounded weights towards the original's predictions; Ctrl-C ends it early "
        "with the best weights so far.",
    )
    judge_tokens: int = Field(
        default=0,
        ge=0,
        description="About how many held-out tokens to evaluate on; 0: as many as take about a minute, at most 50,000.",
    )
    seed: int = Field(default=1, ge=0, description="Decides the order of the text.")
