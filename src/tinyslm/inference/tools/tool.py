"""Tools: typed Python functions that a model may call.

    @tool
    def price(product: str, currency: Literal["EUR", "USD"] = "EUR") -> float:
        \"\"\"Look up what a product costs.

        Args:
            product: its name, as the catalogue has it.
        \"\"\"

The signature's hints become a JSON schema, and the docstring its descriptions. When a call arrives, pydantic checks
the arguments again and makes them what the function wants (dates, enums, models of one's own).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, get_origin, get_type_hints, overload

from docstring_parser import parse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tools.schema import writable

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
LONGEST_DESCRIPTION = 2_000  # characters: every one of them is read by the model, at each step


class ToolError(Exception):
    """What went wrong in a call, in words for the model: it may try again with other arguments."""


@dataclass(frozen=True)
class Tool:
    """Something that a model may call.

    Attributes:
        name: what the model calls it by.
        description: what it does, for the model.
        parameters: JSON schema of its arguments, an object.
        check: the arguments as `call` wants them; raises `ToolError` for those that are wrong.
        call: does it, with keyword arguments; may be a coroutine function. `ToolError` is reported to the model as is,
            every other exception with its kind.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    call: Callable[..., Any]
    check: Callable[[Mapping[str, Any]], dict[str, Any]] = field(default=dict, repr=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise TinyslmError(
                f"{self.name!r:.80} cannot be the name of a tool.",
                "Use at most 64 letters, digits, _ and -, beginning with a letter or _; @tool takes name=...",
            )
        if len(self.description) > LONGEST_DESCRIPTION:
            raise TinyslmError(
                f"The description of the tool {self.name} has {len(self.description)} characters.",
                f"Use at most {LONGEST_DESCRIPTION}: the model reads them at each step.",
            )

    @classmethod
    def from_function(
        cls, function: Callable[..., Any], *, name: str | None = None, description: str | None = None
    ) -> Tool:
        """A function as a tool; a coroutine function, too.

        Every parameter needs a type hint that pydantic knows. Descriptions come from the docstring (Google's, NumPy's
        or Sphinx' form), or from `Annotated[type, "description"]`.

        Raises `TinyslmError` for what cannot be a tool.
        """
        name = name or str(getattr(function, "__name__", type(function).__name__))
        doc = parse(inspect.getdoc(function) or "")
        texts = {one.arg_name: " ".join((one.description or "").split()) for one in doc.params}
        model, names = _arguments(name, function, texts)
        paragraphs = [part for part in (doc.short_description, doc.long_description) if part]
        description = description if description is not None else "\n\n".join(paragraphs)
        return cls(name, description, _schema(name, model), function, lambda given: _checked(model, names, given))

    def schema(self) -> dict[str, Any]:
        """The tool as OpenAI's API describes it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}

    def renamed(self, name: str) -> Tool:
        """The same under another name."""
        return replace(self, name=name)

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Call it as the function that it was made of."""
        return self.call(*values, **named)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, description: str | None = None
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a typed function a tool: `@tool`, or `@tool(name="...", description="...")`. See `Tool.from_function`."""
    if function is not None:
        return Tool.from_function(function)
    return lambda function: Tool.from_function(function, name=name, description=description)


def _arguments(
    name: str, function: Callable[..., Any], texts: Mapping[str, str]
) -> tuple[type[BaseModel], dict[str, str]]:
    """A pydantic model of the function's arguments, and the argument that each field stands for.

    The fields have names of their own, so that an argument may be called `model_config` or `_`.
    """
    hints = _hints(name, function)
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for number, parameter in enumerate(_parameters(name, function)):
        if parameter.name not in hints:
            raise _cannot(name, f"its parameter {parameter.name} has no type hint", f"Write {parameter.name}: str, say")
        default = ... if parameter.default is parameter.empty else parameter.default
        hint, text = _described(hints[parameter.name])
        about = text or texts.get(parameter.name) or None
        fields[f"a{number}"] = (hint, Field(default, alias=parameter.name, description=about))
        names[f"a{number}"] = parameter.name
    try:
        return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields), names
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise _cannot(name, f"pydantic does not know a type of its parameters ({reason})") from None


def _parameters(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise _cannot(name, "its signature is not known", "Wrap it in a function with type hints") from None
    for one in parameters:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            stars = "*" if one.kind is one.VAR_POSITIONAL else "**"
            raise _cannot(
                name, f"it takes {stars}{one.name}, which has no schema", "Name every parameter, or use a list"
            )
        if one.kind is one.POSITIONAL_ONLY:
            raise _cannot(name, f"its parameter {one.name} is positional only", "Leave out the / in its signature")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _cannot(name, "it yields", "Return a list")
    return parameters


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    plain = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        return get_type_hints(plain, include_extras=True)
    except (NameError, TypeError) as error:
        raise _cannot(
            name, f"a type hint cannot be read ({error})", "Import what it names, at the module's top"
        ) from None


def _described(hint: Any) -> tuple[Any, str]:
    """A hint, and the description that `Annotated[..., "description"]` gives it."""
    if get_origin(hint) is not Annotated:
        return hint, ""
    return hint, next((extra for extra in hint.__metadata__ if isinstance(extra, str)), "")


def _schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    try:
        return writable(model.model_json_schema(schema_generator=_Plain), name)
    except PydanticInvalidForJsonSchema as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise _cannot(name, f"a type of its parameters has no JSON schema ({reason})") from None


class _Plain(GenerateJsonSchema):
    """A default that JSON cannot express is left out of the schema; the function has it all the same."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  (pydantic's own form)


def _checked(model: type[BaseModel], names: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        values = model.model_validate(given)
    except ValidationError as error:
        mistakes = [
            f"{'.'.join(map(str, mistake['loc'])) or 'arguments'}: {mistake['msg']}"
            for mistake in error.errors(include_url=False, include_context=False)
        ]
        raise ToolError("Wrong arguments. " + "; ".join(mistakes)) from None
    return {names[one]: getattr(values, one) for one in names}


def _cannot(
    name: str, reason: str, remedy: str = "Use types that JSON has, or pydantic models of them"
) -> TinyslmError:
    return TinyslmError(f"{name} cannot be a tool: {reason}.", f"{remedy}.")
