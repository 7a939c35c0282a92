"""The bodies of /v1/completions, /v1/embeddings, /tokenize and /detokenize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinyslm.serving.schemas.chat import MAX_MESSAGES, MAX_TOOLS, Message, ResponseFormat, Tool
from tinyslm.serving.schemas.common import Body, ChoicesBody, Count, Ids, Ignored, ModelName

Texts = str | Ids | list[str] | list[Ids]
Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS)]


class CompletionBody(ChoicesBody):
    prompt: Texts = Field(default="", description="One text or several, or token ids.")
    max_tokens: Count | None = Field(default=None, description="Maximum number of tokens per choice.")
    echo: bool = Field(default=False, description="Repeat the prompt before its continuation.")
    logprobs: int | None = Field(default=None, ge=0, le=20, description="Number of likeliest tokens to return.")
    best_of: int | None = Field(default=None, ge=1, description="Must equal n.")
    response_format: ResponseFormat | None = Field(default=None, description="Extension: as for chat completions.")
    token_healing: bool = Field(
        default=False,
        description="Extension: continue a text that ends inside a token as if it went on; not with a "
        "response_format, nor after a prompt of token ids.",
    )

    rejected: ClassVar[Mapping[str, str]] = {"suffix": "these models cannot fill in the middle."}

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, texts or ids, one by one; one empty prompt if there are none."""
        return one_by_one(self.prompt) or [""]


class EmbeddingBody(Body):
    model: ModelName
    input: Texts = Field(description="One text or several, or token ids.")
    encoding_format: Literal["float", "base64"] = "float"
    user: Ignored = None

    rejected: ClassVar[Mapping[str, str]] = {"dimensions": "the length of a model's vectors is fixed."}


class TokenizeBody(Body):
    model: ModelName
    prompt: str | None = Field(default=None, description="The text.")
    messages: Messages | None = Field(default=None, description="The conversation.")
    tools: Tools = Field(default_factory=list, description="Tools offered to the model.")
    add_special_tokens: bool = Field(default=True, description="Begin with the special tokens of prompts.")
    return_token_strs: bool = Field(default=False, description="Also return the text of each token.")

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class DetokenizeBody(Body):
    model: ModelName
    tokens: Ids = Field(description="The ids.")


def one_by_one(given: str | list[int] | list[str] | list[list[int]]) -> list[str | list[int]]:
    """One text or one list of ids as a list of one; several as they are."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [given]
    return list(given)  # type: ignore[arg-type]
