"""What the bodies of all routes have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.printable import one_line
from tinyslm.inference.grammar_limits import MOST_CHOICES
from tinyslm.inference.json_schema import check_size
from tinyslm.inference.stop import LONGEST_STOP, MOST_STOPS

Count = Annotated[int, Field(ge=1, le=2**31)]
Token = Annotated[int, Field(ge=0, le=2**31)]
ModelName = Annotated[str, Field(max_length=256, description="Name of a model, as /v1/models lists them.")]
Stop = Annotated[str, Field(max_length=LONGEST_STOP)]
Anything = Any


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Number = Annotated[float, AfterValidator(_finite)]


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        check_size(schema)
    except TinyslmError as error:
        raise ValueError(f"{error.problem} {error.remedy}") from error
    return schema


SchemaObject = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""A JSON schema that can be written as JSON again: not nested too deep, with numbers and characters that JSON has."""


class FieldMistake(ValueError):
    """A mistake that a check of the whole body finds in one field, `param`."""

    def __init__(self, param: str, text: str) -> None:
        super().__init__(text)
        self.param = param


class Part(BaseModel):
    """Something inside a body. What else a client writes into it is left unread."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Body(BaseModel):
    """A whole body. Fields that nobody knows are refused, as a mistake in a name would else go unseen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refused: ClassVar[Mapping[str, str]] = {}
    """Fields of OpenAI's API that would change the answer and are not supported: why, or what to do instead."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        """Fields that are null are as good as not there."""
        if not isinstance(values, dict):
            return values
        values = {name: value for name, value in values.items() if value is not None}
        for name in values:
            if name in cls.refused:
                raise FieldMistake(name, f"{name} is not supported: {cls.refused[name]}")
            if name not in cls.model_fields:
                shown = one_line(name, 100)  # an unpaired surrogate could not be sent back
                raise FieldMistake(shown, f'there is no field "{shown}". {did_you_mean(shown, cls.model_fields)}')
        return values


class Sampled(Body):
    """A body that asks for text to be drawn."""

    model: ModelName
    stream: bool = Field(default=False, description="Send the text piece by piece, as server-sent events.")
    temperature: Number | None = Field(
        default=None, ge=0, le=100, description="0: the likeliest token. null, here and below: the model's default."
    )
    top_p: Number | None = Field(
        default=None, ge=0, le=1, description="Keep the likeliest tokens of this total probability; 0: only one."
    )
    top_k: int | None = Field(
        default=None, ge=-1, le=2**31, description="Not of OpenAI: keep the k likeliest tokens; 0: all."
    )
    min_p: Number | None = Field(
        default=None, ge=0, le=1, description="Not of OpenAI: drop tokens less likely than this share of the likeliest."
    )
    repetition_penalty: Number | None = Field(
        default=None, gt=0, le=100, description="Not of OpenAI: makes seen tokens less likely; 1: off."
    )
    user: Anything = Field(default=None, description="Not read.")
    metadata: Anything = Field(default=None, description="Not read.")
    store: Anything = Field(default=None, description="Not read: nothing is stored.")
    service_tier: Anything = Field(default=None, description="Not read.")
    safety_identifier: Anything = Field(default=None, description="Not read.")
    prompt_cache_key: Anything = Field(default=None, description="Not read: beginnings of prompts are cached anyway.")
    prompt_cache_retention: Anything = Field(default=None, description="Not read.")


class StreamOptions(Part):
    """How a stream ends."""

    include_usage: bool = Field(default=False, description="Tell the tokens used in a last event.")


class Drawn(Sampled):
    """What chat completions and plain ones have in common."""

    n: int = Field(default=1, ge=1, le=2**10, description="How many answers to each prompt.")
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] = Field(
        default_factory=list,
        description=f"Texts that end the answer: at most {MOST_STOPS} of {LONGEST_STOP} characters.",
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="Makes the draws repeatable.")
    frequency_penalty: Number = Field(default=0.0, ge=-2, le=2, description="For each time a token was generated.")
    presence_penalty: Number = Field(default=0.0, ge=-2, le=2, description="Once a token was generated.")
    logit_bias: dict[str, Number] = Field(
        default_factory=dict, max_length=1024, description="Added to logits, by token id; -100 to 100."
    )
    stream_options: StreamOptions | None = Field(default=None, description="Whether usage is told at the end.")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        given = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        return tuple(text for text in given if text)

    @property
    def tells_usage(self) -> bool:
        """Whether the stream ends with what was used."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextFormat(Part):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Part):
    """Any JSON object."""

    type: Literal["json_object"]


class RegexFormat(Part):
    """Not of OpenAI: text that a regular expression matches as a whole."""

    type: Literal["regex"]
    pattern: str


class ChoiceFormat(Part):
    """Not of OpenAI: one of some texts."""

    type: Literal["choice"]
    choices: list[str] = Field(max_length=MOST_CHOICES)


class LarkFormat(Part):
    """Not of OpenAI: text of a Lark grammar."""

    type: Literal["lark"]
    grammar: str
