"""What the bodies of all routes have in common."""

from __future__ import annotations

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
Ids = Annotated[list[Token], Field(max_length=2**20)]
ModelName = Annotated[str, Field(max_length=256, description="Name of a model, as listed by /v1/models.")]
Stop = Annotated[str, Field(max_length=LONGEST_STOP)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Ignored = Annotated[Any, Field(description="Ignored.")]


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        check_size(schema)
    except TinyslmError as error:
        raise ValueError(f"{error.problem} {error.remedy}") from error
    return schema


SchemaObject = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""A JSON schema whose nesting is limited, with numbers and characters that JSON can represent."""


class FieldError(ValueError):
    """An error in the field `param`, found by the validation of a whole body."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Part(BaseModel):
    """An object inside a body. Values are not converted; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Body(BaseModel):
    """A request body. Values are not converted; unknown fields are rejected, since a typo would go unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rejected: ClassVar[Mapping[str, str]] = {}
    """Fields of OpenAI's API that would change the answer and are not supported: the reason, or an alternative."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        """Remove null fields."""
        if not isinstance(values, dict):
            return values
        values = {name: value for name, value in values.items() if value is not None}
        for name in values:
            if name in cls.rejected:
                raise FieldError(name, f"{name} is not supported: {cls.rejected[name]}")
            if name not in cls.model_fields:
                shown = one_line(name, 100)  # an unpaired surrogate could not be sent back
                raise FieldError(shown, f'there is no field "{shown}". {did_you_mean(shown, cls.model_fields)}')
        return values


class GenerationBody(Body):
    model: ModelName
    stream: bool = Field(default=False, description="Send the text in pieces, as server-sent events.")
    temperature: Number | None = Field(
        default=None, ge=0, le=100, description="0: greedy. null, here and below: the model's default."
    )
    top_p: Number | None = Field(
        default=None, ge=0, le=1, description="Keep the likeliest tokens of this total probability; 0: only one."
    )
    top_k: int | None = Field(
        default=None, ge=-1, le=2**31, description="Extension: keep the k likeliest tokens; 0: all."
    )
    min_p: Number | None = Field(
        default=None, ge=0, le=1, description="Extension: drop tokens less likely than this share of the likeliest."
    )
    repetition_penalty: Number | None = Field(
        default=None, gt=0, le=100, description="Extension: makes seen tokens less likely; 1: off."
    )
    user: Ignored = None
    metadata: Ignored = None
    store: Any = Field(default=None, description="Ignored: nothing is stored.")
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Any = Field(default=None, description="Ignored: prefixes of prompts are always cached.")
    prompt_cache_retention: Ignored = None


class StreamOptions(Part):
    include_usage: bool = Field(default=False, description="Report the token usage in a last event.")


class ChoicesBody(GenerationBody):
    """Fields that chat completions and completions share."""

    n: int = Field(default=1, ge=1, le=2**10, description="Number of choices per prompt.")
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] = Field(
        default_factory=list,
        description=f"Stop sequences: at most {MOST_STOPS} of {LONGEST_STOP} characters.",
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="Makes sampling repeatable.")
    frequency_penalty: Number = Field(default=0.0, ge=-2, le=2, description="Per occurrence of a generated token.")
    presence_penalty: Number = Field(default=0.0, ge=-2, le=2, description="Once for each generated token.")
    logit_bias: dict[str, Number] = Field(
        default_factory=dict, max_length=1024, description="Added to logits, by token id; -100 to 100."
    )
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        given = (self.stop,) if isinstance(self.stop, str) else self.stop
        return tuple(text for text in given if text)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class TextFormat(Part):
    type: Literal["text"]


class JsonObjectFormat(Part):
    type: Literal["json_object"]


class RegexFormat(Part):
    """Extension: text that a regular expression matches as a whole."""

    type: Literal["regex"]
    pattern: str


class ChoiceFormat(Part):
    """Extension: one of some texts."""

    type: Literal["choice"]
    choices: list[str] = Field(max_length=MOST_CHOICES)


class LarkFormat(Part):
    """Extension: text that follows a Lark grammar."""

    type: Literal["lark"]
    grammar: str


class NamedSchema(Part):
    name: str = "answer"
    description: str | None = None
    schema_: SchemaObject | bool = Field(alias="schema")
    strict: bool | None = None


Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


class Function(Part):
    """A function that the model may call; parameters: a JSON schema of its arguments, an object."""

    name: Name
    description: str | None = None
    parameters: SchemaObject | None = None
    strict: bool | None = None
