"""How text is drawn from a model."""

from typing import Annotated

from pydantic import Field

from tinyslm.core.config import Section
from tinyslm.inference.stop import LONGEST_STOP, MOST_STOPS


class SamplingSettings(Section):
    """The filters apply in the order of the fields; a temperature of 0 takes the likeliest token."""

    max_tokens: int = Field(default=200, gt=0, description="Most tokens to generate for each sample.")
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="Makes tokens that were already seen less likely; 1: off."
    )
    frequency_penalty: float = Field(
        default=0.0, ge=-2, le=2, description="Taken from a token's logit for each time it was generated; 0: off."
    )
    presence_penalty: float = Field(
        default=0.0, ge=-2, le=2, description="Taken from a token's logit once it was generated; 0: off."
    )
    temperature: float = Field(default=0.8, ge=0, description="Divides the logits; 0: always the likeliest token.")
    top_k: int = Field(default=0, ge=0, description="Keep the k likeliest tokens; 0: all.")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Keep the likeliest tokens that together have this probability."
    )
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="Drop tokens less likely than this share of the likeliest."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="Makes the draws repeatable; sample i uses seed + i."
    )
    stop: tuple[Annotated[str, Field(max_length=LONGEST_STOP)], ...] = Field(
        default=(),
        max_length=MOST_STOPS,
        description=f"A text of at most {LONGEST_STOP} characters that ends the generation; up to {MOST_STOPS} times.",
    )
