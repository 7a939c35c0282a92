"""The body of /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from tinyslm.serving.shapes.body import Count, Drawn, Token
from tinyslm.serving.shapes.chat import ResponseFormat

Ids = Annotated[list[Token], Field(max_length=2**20)]


class CompletionBody(Drawn):
    """A text to go on from."""

    prompt: str | Ids | list[str] | list[Ids] = Field(default="", description="One text or several, or token ids.")
    max_tokens: Count | None = Field(default=None, description="Most tokens of each text.")
    echo: bool = Field(default=False, description="Repeat the prompt before what follows it.")
    logprobs: int | None = Field(default=None, ge=0, le=20, description="How many of the likeliest tokens to tell.")
    best_of: int | None = Field(default=None, ge=1, description="Only as many as n.")
    response_format: ResponseFormat | None = Field(default=None, description="Not of OpenAI: as for chats.")
    token_healing: bool = Field(
        default=False,
        description="Not of OpenAI: continue a text that ends inside a token as if it went on; not with a "
        "response_format, nor after a prompt of token ids.",
    )

    refused: ClassVar[Mapping[str, str]] = {"suffix": "these models only write on."}

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, texts or ids, one by one."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if not given:
            return [""]
        return [given] if isinstance(given[0], int) else list(given)
