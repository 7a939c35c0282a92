"""The body of /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tinyslm.serving.shapes.body import (
    Anything,
    ChoiceFormat,
    Count,
    Drawn,
    JsonObjectFormat,
    LarkFormat,
    Part,
    RegexFormat,
    SchemaObject,
    TextFormat,
)

MOST_MESSAGES = 2**14
MOST_PARTS = 2**10  # of one message
MOST_CALLS = 128  # of one message
MOST_TOOLS = 128

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


class ContentPart(Part):
    """A part of a message: text."""

    type: str
    text: str | None = None
    refusal: str | None = None


Parts = Annotated[list[ContentPart], Field(max_length=MOST_PARTS)]


class CalledFunction(Part):
    """What an assistant called; arguments: JSON."""

    name: str
    arguments: str = "{}"


class ToolCall(Part):
    """A call in an assistant's message."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Part):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Parts | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MOST_CALLS)
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Function(Part):
    """What can be called; parameters: a JSON schema of its arguments, an object."""

    name: Name
    description: str | None = None
    parameters: SchemaObject | None = None
    strict: bool | None = None


class Tool(Part):
    """A tool: a function."""

    type: Literal["function"]
    function: Function


class NamedFunction(Part):
    """A function's name."""

    name: Name


class NamedTool(Part):
    """The function that must be called."""

    type: Literal["function"]
    function: NamedFunction


class Schema(Part):
    """A JSON schema with a name."""

    name: str = "answer"
    description: str | None = None
    schema_: SchemaObject | bool = Field(alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Part):
    """JSON that is valid under a schema, always."""

    type: Literal["json_schema"]
    json_schema: Schema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat | LarkFormat,
    Field(discriminator="type"),
]


class ChatBody(Drawn):
    """A conversation to be answered."""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: Count | None = Field(default=None, description="Most tokens of the answer.")
    max_tokens: Count | None = Field(default=None, description="The older name of max_completion_tokens.")
    tools: list[Tool] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    modalities: list[Literal["text"]] = Field(default_factory=list, description="Only text.")
    prediction: Anything = Field(default=None, description="Not read: repeated text is guessed ahead anyway.")

    refused: ClassVar[Mapping[str, str]] = {
        "audio": "these models write text only.",
        "functions": "give them as tools.",
        "function_call": "give it as tool_choice.",
        "reasoning_effort": "these models do not think apart from answering.",
        "web_search_options": "nothing is fetched from anywhere.",
        "verbosity": "say in a message how long the answer is to be.",
    }

    @model_validator(mode="after")
    def _check_together(self) -> ChatBody:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise ValueError("two tools have the same name")
        chosen = self.tool_choice
        if isinstance(chosen, NamedTool) and chosen.function.name not in names:
            raise ValueError(f'tool_choice names "{chosen.function.name}", which is none of the tools')
        if chosen == "required" and not names:
            raise ValueError("tool_choice is required, and there are no tools")
        return self
