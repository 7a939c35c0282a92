"""The bodies of /v1/embeddings, /tokenize and /detokenize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinyslm.serving.shapes.body import Anything, Body, ModelName, Token
from tinyslm.serving.shapes.chat import MOST_MESSAGES, MOST_TOOLS, Message, Tool
from tinyslm.serving.shapes.completions import Ids


class EmbeddingBody(Body):
    """Texts to be turned into vectors."""

    model: ModelName
    input: str | Ids | list[str] | list[Ids] = Field(description="One text or several, or token ids.")
    encoding_format: Literal["float", "base64"] = "float"
    user: Anything = Field(default=None, description="Not read.")

    refused: ClassVar[Mapping[str, str]] = {"dimensions": "a model's vectors have the length they have."}

    @property
    def inputs(self) -> list[str | list[int]]:
        """The texts or ids, one by one."""
        given = self.input
        if isinstance(given, str):
            return [given]
        return [given] if given and isinstance(given[0], int) else list(given)  # type: ignore[arg-type]


class TokenizeBody(Body):
    """A text or a conversation to be turned into token ids."""

    model: ModelName
    prompt: str | None = Field(default=None, description="The text.")
    messages: list[Message] | None = Field(
        default=None, min_length=1, max_length=MOST_MESSAGES, description="The conversation."
    )
    tools: list[Tool] = Field(default_factory=list, max_length=MOST_TOOLS, description="Tools offered to the model.")
    add_special_tokens: bool = Field(default=True, description="Begin as prompts of this model do.")
    return_token_strs: bool = Field(default=False, description="Tell the text of each token too.")

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class DetokenizeBody(Body):
    """Token ids to be turned into text."""

    model: ModelName
    tokens: list[Token] = Field(max_length=2**20, description="The ids.")
