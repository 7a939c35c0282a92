"""The body of /v1/responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from tinyslm.serving.shapes.body import (
    Anything,
    ChoiceFormat,
    Count,
    JsonObjectFormat,
    LarkFormat,
    Part,
    RegexFormat,
    Sampled,
    SchemaObject,
    TextFormat,
)
from tinyslm.serving.shapes.chat import MOST_MESSAGES, MOST_TOOLS, Name, Parts


class Item(Part):
    """Something in the input: a message, a call of a tool, what a call gave, or a thought (which is not read)."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | Parts | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | Parts | None = None


class FunctionTool(Part):
    """A tool: a function. parameters: a JSON schema of its arguments, an object."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: SchemaObject | None = None
    strict: bool | None = None


class FunctionChoice(Part):
    """The function that must be called."""

    type: Literal["function"]
    name: Name


class SchemaFormat(Part):
    """JSON that is valid under a schema, always."""

    type: Literal["json_schema"]
    name: str = "answer"
    description: str | None = None
    schema_: SchemaObject | bool = Field(alias="schema")
    strict: bool | None = None


class TextSettings(Part):
    """What the text must look like."""

    format: (
        Annotated[
            TextFormat | JsonObjectFormat | SchemaFormat | RegexFormat | ChoiceFormat | LarkFormat,
            Field(discriminator="type"),
        ]
        | None
    ) = None


class ResponseBody(Sampled):
    """Something to be answered."""

    input: str | Annotated[list[Item], Field(max_length=MOST_MESSAGES)] = Field(
        description="A text, or messages, calls and what they gave."
    )
    instructions: str | None = Field(default=None, description="What the system says first.")
    previous_response_id: str | None = Field(default=None, description="The answer to go on from.")
    store: bool = Field(default=True, description="Keep the answer for a while, so that a later request can go on.")
    max_output_tokens: Count | None = Field(default=None, description="Most tokens of the answer.")
    text: TextSettings | None = None
    tools: list[FunctionTool] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice = "auto"
    parallel_tool_calls: bool = True
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16, description="Given back.")
    truncation: Literal["disabled"] = Field(default="disabled", description="A prompt that is too long is refused.")
    background: Literal[False] = Field(default=False, description="Not supported.")
    include: list[Literal["reasoning.encrypted_content"]] = Field(default_factory=list, description="Not read.")
    stream_options: Anything = Field(default=None, description="Not read.")
    max_tool_calls: Anything = Field(default=None, description="Not read: it is about tools that the server runs.")

    refused: ClassVar[Mapping[str, str]] = {
        "reasoning": "these models do not think apart from answering.",
        "conversation": "give previous_response_id, or the whole conversation as input.",
        "prompt": "there are no stored prompts.",
        "top_logprobs": "chat completions tell probabilities.",
    }

    @field_validator("input")
    @classmethod
    def _not_empty(cls, given: str | list[Item]) -> str | list[Item]:
        if not given:
            raise ValueError("it is empty")
        return given
