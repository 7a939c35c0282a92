"""A typed function is a tool: its schema, and what arrives at it."""

import datetime
import enum
import functools
import json
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.tools.tool import Tool, ToolError, tool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(BaseModel):
    title: str
    inches: float = Field(gt=0)


class Point(TypedDict):
    x: int


@tool
def order(  # noqa: D417
    item: str,
    count: int = 1,
    colour: Colour = Colour.RED,
    speed: Literal["slow", "fast"] = "slow",
    sizes: list[Size] = [],  # noqa: B006
    when: Optional[datetime.date] = None,  # noqa: UP045
    note: Annotated[str, "for the driver"] = "",
    tags: set[str] = frozenset(),
) -> str:
    """Order something.

    It is brought to the door.

    Args:
        item: what is
            wanted.
        count: how many.
    """
    return f"{item} {count} {colour} {speed} {sizes} {when} {note} {sorted(tags)}"


def test_the_schema_has_OpenAIs_shape():
    schema = order.schema()
    assert schema["type"] == "function"
    function = schema["function"]
    assert function["name"] == "order"
    assert function["description"] == "Order something.\n\nIt is brought to the door."
    parameters = function["parameters"]
    assert parameters["required"] == ["item"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["item"] == {"type": "string", "description": "what is wanted."}
    assert parameters["properties"]["count"] == {"type": "integer", "description": "how many.", "default": 1}
    assert parameters["properties"]["note"]["description"] == "for the driver"
    assert parameters["properties"]["speed"]["enum"] == ["slow", "fast"]
    assert parameters["$defs"]["Colour"]["enum"] == ["red", "blue"]
    assert parameters["$defs"]["Size"]["properties"]["title"] == {"type": "string"}


def test_the_schema_compiles_as_a_grammar(agent_tokenizer):
    matcher = Grammar.json_schema(order.parameters, agent_tokenizer).matcher()
    text = '{"item":"a","count":2,"colour":"blue","when":"2024-02-03"}'
    assert matcher.take(agent_tokenizer.encode(text)) == len(text)
    assert matcher.accepts


@pytest.mark.parametrize(
    "docstring",
    [
        "Add.\n\n    Args:\n        x: the first\n    ",
        "Add.\n\n    Parameters\n    ----------\n    x\n        the first\n    ",
        "Add.\n\n    :param x: the first\n    ",
    ],
    ids=["Google", "NumPy", "Sphinx"],
)
def test_descriptions_come_from_docstrings(docstring):
    def add(x: int) -> int:
        return x

    add.__doc__ = docstring
    made = Tool.from_function(add)
    assert made.description == "Add."
    assert made.parameters["properties"]["x"]["description"] == "the first"


def test_arguments_become_what_the_function_wants():
    values = order.check({"item": "a", "count": "3", "colour": "blue", "sizes": [{"title": "t", "inches": 2}]})
    assert values["count"] == 3
    assert values["colour"] is Colour.BLUE
    assert values["sizes"] == [Size(title="t", inches=2)]
    assert values["when"] is None
    assert order.check({"item": "a", "when": "2024-02-03"})["when"] == datetime.date(2024, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "item: Field required"),
        ({"item": "a", "count": "many"}, "count: "),
        ({"item": "a", "colour": "green"}, "colour: "),
        ({"item": "a", "sizes": [{"title": "t", "inches": -1}]}, "sizes.0.inches: "),
        ({"item": "a", "more": 1}, "more: "),
    ],
)
def test_wrong_arguments_are_told(arguments, words):
    with pytest.raises(ToolError, match="Wrong arguments") as caught:
        order.check(arguments)
    assert words in str(caught.value)


def test_a_tool_is_still_a_function():
    assert order("a", count=2).startswith("a 2 ")


def test_names_that_pydantic_keeps_to_itself_are_arguments_too():
    @tool
    def odd(model_config: int, _: str, schema: bool, self: str = "") -> None: ...

    assert list(odd.parameters["properties"]) == ["model_config", "_", "schema", "self"]
    assert odd.check({"model_config": 1, "_": "a", "schema": True}) == {
        "model_config": 1,
        "_": "a",
        "schema": True,
        "self": "",
    }


def test_coroutine_functions_methods_and_typed_dictionaries():
    class Shop:
        def find(self, at: Point) -> int:
            """Find it."""
            return at["x"]

    @tool(name="later", description="Do it.")
    async def do(x: int) -> int:
        return x

    assert (do.name, do.description) == ("later", "Do it.")
    found = Tool.from_function(Shop().find)
    assert (found.name, found.call(**found.check({"at": {"x": 3}}))) == ("find", 3)


def test_a_tool_without_parameters_takes_none():
    @tool
    def now() -> str:
        return "now"

    assert now.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    with pytest.raises(ToolError):
        now.check({"x": 1})


def starred(*values: int) -> None: ...
def double_starred(**values: int) -> None: ...
def unhinted(x) -> None: ...
def positional(x: int, /) -> None: ...
def unknown_type(x: object.__class__.__subclasshook__.__class__) -> None: ...
def unread(x: "NoSuchType") -> None: ...  # noqa: F821
def generates(x: int):
    yield x


def recursive_without_end(x: "Endless") -> None: ...


class Endless(BaseModel):
    inner: "Endless"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (starred, "takes \\*values"),
        (double_starred, "takes \\*\\*values"),
        (unhinted, "x has no type hint"),
        (positional, "positional only"),
        (unknown_type, "pydantic does not know|no JSON schema"),
        (unread, "hint cannot be read"),
        (generates, "it yields"),
        (recursive_without_end, "no end"),
        (lambda x: x, "cannot be"),
        (functools.partial(unhinted), "x has no type hint"),
    ],
)
def test_what_cannot_be_a_tool_is_told(function, words):
    with pytest.raises(TinyslmError, match=words):
        Tool.from_function(function)


@pytest.mark.parametrize("name", ["", "a b", "1st", "ä", "x" * 65, "a.b", 'a"b'])
def test_names_that_a_call_could_not_hold_are_refused(name):
    with pytest.raises(TinyslmError, match="name of a tool"):
        order.renamed(name)


def test_a_description_has_an_end():
    with pytest.raises(TinyslmError, match="description"):
        Tool("a", "x" * 3000, {"type": "object"}, print)


HINTS = st.recursive(
    st.sampled_from([(int, st.integers(-99, 99)), (str, st.text(max_size=5)), (bool, st.booleans())])
    | st.just((Literal["a", "b"], st.sampled_from(["a", "b"])))
    | st.just((Colour, st.sampled_from(["red", "blue"]))),
    lambda inner: (
        inner.map(lambda one: (list[one[0]], st.lists(one[1], max_size=3)))
        | inner.map(lambda one: (one[0] | None, st.none() | one[1]))
        | inner.map(lambda one: (dict[str, one[0]], st.dictionaries(st.text(max_size=3), one[1], max_size=2)))
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), hints=st.lists(HINTS, min_size=1, max_size=4))
def test_what_the_schema_allows_is_what_arrives(agent_tokenizer, data, hints):
    """For functions of any types: values of these are valid under the schema, and pass the check."""

    def function(**_: Any) -> None: ...

    import inspect

    names = [f"p{number}" for number in range(len(hints))]
    function.__annotations__ = {name: hint for name, (hint, _) in zip(names, hints, strict=True)}
    function.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint)
            for name, (hint, _) in zip(names, hints, strict=True)
        ]
    )
    made = Tool.from_function(function)
    values = {name: data.draw(strategy) for name, (_, strategy) in zip(names, hints, strict=True)}
    made.check(values)
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    if "\\u" not in text and "\x7f" not in text:  # control characters are not written under a grammar
        ids = agent_tokenizer.encode(text)
        matcher = Grammar.json_schema(made.parameters, agent_tokenizer).matcher()
        assert matcher.take(ids) == len(ids), text
        assert matcher.accepts
