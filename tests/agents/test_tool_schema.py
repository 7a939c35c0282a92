"""Schemas of foreign tools, made so that a grammar can hold a model to them."""

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tool_grammar import tools_grammar
from tinyslm.inference.tools.schema import writable

FOREIGN = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Search",
    "type": "object",
    "properties": {
        "title": {"title": "Title", "type": "string", "pattern": "^[a-z]+$"},
        "format": {"type": "string", "format": "path"},
        "not": {"type": "integer", "format": "int32", "not": {"const": 3}},
        "when": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string", "title": "Tag"}, "uniqueItems": True},
        "more": {"$ref": "#/$defs/more"},
        "fixed": {"const": {"title": "kept", "format": "kept"}},
    },
    "required": ["title"],
    "if": {"properties": {"title": {"const": "x"}}},
    "$defs": {"more": {"type": "object", "properties": {"x": {"type": "number"}}, "propertyNames": {"maxLength": 3}}},
}


def test_what_a_grammar_cannot_express_is_left_out(agent_tokenizer):
    plain = writable(FOREIGN, "search")
    properties = plain["properties"]
    assert list(properties) == list(FOREIGN["properties"])
    assert properties["title"] == {"type": "string", "pattern": "^[a-z]+$"}
    assert properties["format"] == {"type": "string"}
    assert properties["not"] == {"type": "integer"}
    assert properties["when"] == {"type": "string", "format": "date"}
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}}
    assert properties["fixed"] == FOREIGN["properties"]["fixed"]
    assert plain["required"] == ["title"]
    assert "additionalProperties" not in plain
    assert plain["$defs"]["more"] == {"type": "object", "properties": {"x": {"type": "number"}}}
    tool = {"type": "function", "function": {"name": "search", "description": "", "parameters": plain}}
    matcher = tools_grammar([tool], "required", parallel=False, tokenizer=agent_tokenizer).matcher()
    text = '<tool_call>\n{"name":"search","arguments":{"title":"ab","tags":["x","x"]}}\n</tool_call>'
    assert matcher.take(agent_tokenizer.encode(text)) == len(text)


def test_objects_that_allow_more_still_do():
    open_one = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}}
    assert writable(open_one, "t")["additionalProperties"] == {"type": "integer"}
    free = {"type": "object", "properties": {"a": {"type": "object"}}}
    assert writable(free, "t")["properties"]["a"] == {"type": "object"}


@pytest.mark.parametrize("nothing", [{}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_tool_without_arguments(nothing):
    assert writable(nothing, "t") == {"type": "object", "properties": {}}


def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        "text",
        None,
        [],
        {"type": "object", "properties": {"a": 3}},
        {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(10_000)}},
        {"type": "object", "properties": {"a": {"enum": ["x" * 300_000]}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        nested(100),
        nested(5_000),
    ],
    ids=range(10),
)
def test_schemas_that_cannot_be_used(schema):
    with pytest.raises(TinyslmError):
        writable(schema, "t")


def test_objects_that_are_described_in_parts_stay_open(agent_tokenizer):
    base = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    more = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
    both = {"type": "object", "properties": {"x": {"allOf": [{"$ref": "#/$defs/base"}, more]}}, "$defs": {"base": base}}
    plain = writable({**both, "required": ["x"]}, "t")
    tool = {"type": "function", "function": {"name": "t", "description": "", "parameters": plain}}
    matcher = tools_grammar([tool], "required", parallel=False, tokenizer=agent_tokenizer).matcher()
    text = '<tool_call>\n{"name":"t","arguments":{"x":{"a":"b","b":1}}}\n</tool_call>'
    assert matcher.take(agent_tokenizer.encode(text)) == len(text)
