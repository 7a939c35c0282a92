"""What calls may hold: closed objects, arguments of tools without parameters, and natural tokens for what is fixed."""

import json

import numpy as np
import pytest

from tinyslm.inference.grammar import Grammar, unpacked
from tinyslm.inference.tool_grammar import closed, tools_grammar
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import byte_level_backend

TEXT = {"type": "string"}
A = {"type": "object", "properties": {"a": TEXT}}
B = {"type": "object", "properties": {"b": TEXT}}
ONLY = {"additionalProperties": False}
DEFS = {"one": A, "two": B}


def tool(name: str, **function) -> dict:
    return {"type": "function", "function": {"name": name, **function}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ONLY),
        ({"type": "object"}, {"type": "object", **ONLY}),
        (A, {**A, **ONLY}),
        ({**A, "additionalProperties": TEXT}, {**A, "additionalProperties": TEXT}),
        ({**A, "additionalProperties": True}, {**A, "additionalProperties": True}),
        # Within others: what names its properties is closed, what names none is free.
        ({"properties": {"x": A}}, {"properties": {"x": {**A, **ONLY}}, **ONLY}),
        ({"properties": {"x": {"type": "object"}}}, {"properties": {"x": {"type": "object"}}, **ONLY}),
        ({"properties": {"x": {"items": A}}}, {"properties": {"x": {"items": {**A, **ONLY}}}, **ONLY}),
        ({"properties": {"x": {"anyOf": [A, B]}}}, {"properties": {"x": {"anyOf": [{**A, **ONLY}, {**B, **ONLY}]}}, **ONLY}),  # noqa: E501
        ({"additionalProperties": A}, {"additionalProperties": {**A, **ONLY}}),
        (
            {"properties": {"x": {"allOf": [{"$ref": "#/$defs/one"}], "description": "X"}}, "$defs": DEFS},
            {
                "properties": {"x": {"allOf": [{"$ref": "#/$defs/one"}], "description": "X"}},
                "$defs": {"one": {**A, **ONLY}, "two": {**B, **ONLY}},
                **ONLY,
            },
        ),
        # Alternatives that only say which properties are required describe none.
        ({**A, "anyOf": [{"required": ["a"]}, {"required": []}]}, {**A, "anyOf": [{"required": ["a"]}, {"required": []}], **ONLY}),  # noqa: E501
        # In parts: none of them forbids the properties of the others.
        ({"properties": {"x": {"allOf": [A, B]}}}, {"properties": {"x": {"allOf": [A, B]}}, **ONLY}),
        ({"properties": {"x": {**A, "anyOf": [B]}}}, {"properties": {"x": {**A, "anyOf": [B]}}, **ONLY}),
        (
            {"properties": {"x": {"allOf": [{"$ref": "#/$defs/one"}, B]}}, "$defs": DEFS},
            {
                "properties": {"x": {"allOf": [{"$ref": "#/$defs/one"}, B]}},
                "$defs": {"one": A, "two": {**B, **ONLY}},
                **ONLY,
            },
        ),
        (
            {"allOf": [{"$ref": "#/$defs/both"}, B], "$defs": {"both": {"anyOf": [{"$ref": "#/$defs/one"}]}, **DEFS}},
            {
                "allOf": [{"$ref": "#/$defs/both"}, B],
                "$defs": {"both": {"anyOf": [{"$ref": "#/$defs/one"}]}, "one": A, "two": {**B, **ONLY}},
            },
        ),
    ],
)  # fmt: skip
def test_objects_have_the_properties_they_name(given: dict, expected: dict) -> None:
    before = json.dumps(given)
    assert closed(given) == expected
    assert json.dumps(given) == before


@pytest.mark.parametrize("parameters", [..., None, {}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_tool_without_parameters_gets_an_empty_object(byte_tokenizer, parameters) -> None:
    function = {} if parameters is ... else {"parameters": parameters}
    matcher = tools_grammar([tool("now", **function)], "required", False, byte_tokenizer).matcher()
    forced = matcher.forced()
    assert byte_tokenizer.decode(forced) == '<tool_call>\n{"name":"now","arguments":{}}\n</tool_call>'
    assert matcher.take(forced) == len(forced)
    assert matcher.finished


def test_a_call_has_no_argument_that_the_tool_does_not_name(byte_tokenizer) -> None:
    start = '<tool_call>\n{"name":"f","arguments":{"a":"x","more'
    for parameters, accepted in ((A, start.index(',"more')), ({**A, "additionalProperties": TEXT}, len(start))):
        matcher = tools_grammar([tool("f", parameters=parameters)], "required", False, byte_tokenizer).matcher()
        assert matcher.take(list(start.encode())) == accepted


# The tokens of what is fixed.


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Has quotes together with the punctuation before and behind them."""
    marks = '": ":" {" ", ," "," } "}} [" "/ ")'
    spaced = (' "', ' {"', ' ["', ' ",', ' ")', ' "/', ' "]', '"]', '"} ', "la", "km", "12")
    merges: list[tuple[bytes, bytes]] = []
    for text in (*marks.split(), *spaced):
        token = text.strip(" ") if text[0] != " " else text
        for end in range(2, len(token) + 1):
            pair = token[: end - 1].encode(), token[end - 1 : end].encode()
            if token[:end] not in [(left + right).decode() for left, right in merges]:
                merges.append(pair)
    return Tokenizer(byte_level_backend(merges), chat_template=CHATML)


def allowed(matcher, tokenizer) -> list[int]:
    row = np.zeros(-(-tokenizer.vocab_size // 32), np.uint32)
    matcher.allow(row)
    return np.flatnonzero(unpacked(row, tokenizer.vocab_size)).tolist()


def followed(matcher, tokenizer, text: str) -> list[int]:
    """The ids of a text, at each place the longest token that is allowed; with what is forced, in natural tokens."""
    ids: list[int] = []
    rest = text.encode()
    while rest:
        fitting = [one for one in allowed(matcher, tokenizer) if rest.startswith(tokenizer.token_bytes(one))]
        forced = matcher.inner.compute_ff_bytes()
        for one in allowed(matcher, tokenizer) if forced else ():
            natural = tokenizer.encode(forced.decode())[0]
            assert one == natural or tokenizer.token_bytes(one).startswith(forced)
        best = max(fitting, key=lambda one: len(tokenizer.token_bytes(one)))
        assert matcher.take([best]) == 1
        ids.append(best)
        rest = rest[len(tokenizer.token_bytes(best)) :]
    return ids


def test_fixed_text_is_spelled_as_the_tokenizer_spells_it(tokenizer) -> None:
    number = {"type": "object", "properties": {"expression": TEXT, "units": {"type": "array", "items": TEXT}}}
    parameters = {**number, "required": [*number["properties"]]}
    for value in ("1 + 2", ")", "", "/h", ", ", '\\"', "12"):
        arguments = f'{{"expression":"{value}","units":["km"]}}'
        text = f'<tool_call>\n{{"name":"look_up","arguments":{arguments}}}\n</tool_call>'
        matcher = tools_grammar([tool("look_up", parameters=parameters)], "required", False, tokenizer).matcher()
        ids = followed(matcher, tokenizer, text)
        assert matcher.finished
        fixed = tokenizer.encode(text[: text.index(":{") + 11])  # up to the property's name
        assert ids[: len(fixed)] == fixed


def test_no_space_leads_into_a_corner(tokenizer) -> None:
    """Behind the space of `"expression": "`, quotes alone would be the tokens that include more than a quote."""
    grammar = Grammar.lark('start: "{\\"expression\\": " TEXT "}"\nTEXT: /"[^"]*"/', tokenizer)
    matcher = grammar.matcher()
    while forced := matcher.forced():
        matcher.take(forced)
    assert matcher.inner.compute_ff_bytes() == b' "'
    assert {tokenizer.token_bytes(one) for one in allowed(matcher, tokenizer)} == {
        b' "',
        b' ",',
        b' ")',
        b' "/',
        b' "]',
    }


@pytest.mark.parametrize("text", ["", "12", ")", "/", "]}", "é"])
def test_documents_of_a_schema_have_no_corners_either(tokenizer, text: str) -> None:
    schema = {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"], **ONLY}
    document = json.dumps({"a": text, "b": text}, ensure_ascii=False, separators=(",", ":"))
    matcher = Grammar.json_schema(schema, tokenizer).matcher()
    followed(matcher, tokenizer, document)
    assert matcher.finished
