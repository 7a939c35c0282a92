"""The body of /v1/responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tinyslm.serving.schemas.chat import MAX_MESSAGES, MAX_TOOLS, Content, FunctionName, check_tool_choice
from tinyslm.serving.schemas.common import (
    ChoiceFormat,
    Count,
    Function,
    GenerationBody,
    Ignored,
    JsonObjectFormat,
    LarkFormat,
    NamedSchema,
    Part,
    RegexFormat,
    TextFormat,
)


class Item(Part):
    """An item of the input: a message, a call of a tool, its output, or reasoning (which is ignored)."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content = None


class FunctionTool(Function):
    type: Literal["function"]


class FunctionChoice(FunctionName):
    type: Literal["function"]


class SchemaFormat(NamedSchema):
    type: Literal["json_schema"]


class TextOptions(Part):
    format: (
        Annotated[
            TextFormat | JsonObjectFormat | SchemaFormat | RegexFormat | ChoiceFormat | LarkFormat,
            Field(discriminator="type"),
        ]
        | None
    ) = None


class ResponseBody(GenerationBody):
    input: str | Annotated[list[Item], Field(max_length=MAX_MESSAGES)] = Field(
        description="A text, or messages, calls and their outputs."
    )
    instructions: str | None = Field(default=None, description="The system message.")
    previous_response_id: str | None = Field(default=None, description="The response to continue from.")
    store: bool = Field(default=True, description="Store the response for a while, so that a later request can use it.")
    max_output_tokens: Count | None = Field(default=None, description="Maximum number of tokens of the answer.")
    text: TextOptions | None = None
    tools: list[FunctionTool] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice = "auto"
    parallel_tool_calls: bool = True
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16, description="Returned in the response.")
    truncation: Literal["disabled"] = Field(default="disabled", description="A prompt that is too long is rejected.")
    background: Literal[False] = Field(default=False, description="Not supported.")
    include: list[Literal["reasoning.encrypted_content"]] = Field(default_factory=list, description="Ignored.")
    stream_options: Ignored = None
    max_tool_calls: Any = Field(default=None, description="Ignored: it limits tools that the server runs.")

    rejected: ClassVar[Mapping[str, str]] = {
        "reasoning": "these models have no separate reasoning.",
        "conversation": "use previous_response_id, or send the whole conversation as input.",
        "prompt": "there are no stored prompts.",
        "top_logprobs": "chat completions return probabilities.",
    }

    @field_validator("input")
    @classmethod
    def _not_empty(cls, given: str | list[Item]) -> str | list[Item]:
        if not given:
            raise ValueError("it is empty")
        return given

    @model_validator(mode="after")
    def _check_tools(self) -> ResponseBody:
        choice = self.tool_choice if isinstance(self.tool_choice, str) else self.tool_choice.name
        check_tool_choice(choice, [tool.name for tool in self.tools])
        return self
