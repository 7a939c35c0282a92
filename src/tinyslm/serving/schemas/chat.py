"""The body of /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tinyslm.serving.schemas.common import (
    ChoiceFormat,
    ChoicesBody,
    Count,
    FieldError,
    Function,
    JsonObjectFormat,
    LarkFormat,
    Name,
    NamedSchema,
    Part,
    RegexFormat,
    TextFormat,
)

MAX_MESSAGES = 2**14
MAX_PARTS = 2**10  # of one message
MAX_CALLS = 128  # of one message
MAX_TOOLS = 128


class ContentPart(Part):
    """A part of a message; these models read only text."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: str | None = None
    refusal: str | None = None


Content = str | Annotated[list[ContentPart], Field(max_length=MAX_PARTS)] | None


class FunctionCall(Part):
    name: str
    arguments: str = "{}"


class ToolCall(Part):
    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Part):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MAX_CALLS)
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates read it."""
        message = self.model_dump(exclude_none=True) | {"content": content_text(self.content)}
        for call in message.get("tool_calls", ()):
            call.setdefault("id", "")
        return message


class Tool(Part):
    type: Literal["function"]
    function: Function


class FunctionName(Part):
    name: Name


class ToolChoice(Part):
    type: Literal["function"]
    function: FunctionName


class JsonSchemaFormat(Part):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat | LarkFormat,
    Field(discriminator="type"),
]


class ChatBody(ChoicesBody):
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: Count | None = Field(default=None, description="Maximum number of tokens per choice.")
    max_tokens: Count | None = Field(default=None, description="The older name of max_completion_tokens.")
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | ToolChoice = "auto"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    modalities: list[Literal["text"]] = Field(default_factory=list, description="Only text.")
    prediction: Any = Field(default=None, description="Ignored: drafts come from the prompt.")

    rejected: ClassVar[Mapping[str, str]] = {
        "audio": "these models write text only.",
        "functions": "use tools.",
        "function_call": "use tool_choice.",
        "reasoning_effort": "these models have no separate reasoning.",
        "web_search_options": "the server has no access to the web.",
        "verbosity": "ask for a length in a message.",
    }

    @model_validator(mode="after")
    def _check_consistency(self) -> ChatBody:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        choice = self.tool_choice if isinstance(self.tool_choice, str) else self.tool_choice.function.name
        check_tool_choice(choice, [tool.function.name for tool in self.tools])
        return self


def check_tool_choice(choice: str, names: Sequence[str]) -> None:
    """Raise `FieldError` for duplicate names of tools, and for a choice that is not among them."""
    if len(set(names)) != len(names):
        raise FieldError("tools", "two tools have the same name")
    if choice == "required" and not names:
        raise FieldError("tool_choice", "tool_choice is required, and there are no tools")
    if choice not in ("none", "auto", "required", *names):
        raise FieldError("tool_choice", f'tool_choice names "{choice}", which is not one of the tools')


def content_text(content: str | Sequence[ContentPart] | None) -> str:
    """The text of a message; its parts are joined without a separator."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or part.refusal or "" for part in content)
