"""Grammars: what the mask allows is what the grammar says, for every kind of tokenizer."""

import json

import jsonschema
import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.grammar import Grammar, hide, unpacked
from tinyslm.tokenizer.training import train_tokenizer


def allowed(matcher) -> set[int]:
    row = np.zeros(-(-matcher.grammar.vocab_size // 32), np.uint32)
    matcher.allow(row)
    return set(np.flatnonzero(unpacked(row, matcher.grammar.vocab_size)).tolist())


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {}}, '"not" at #'),
        ({"type": "object", "properties": {"a": {"minLenght": 3}}}, '"minLenght" at #/properties/a'),
        ({"type": "array", "uniqueItems": "yes"}, "uniqueItems"),
        ({"if": {}, "then": {}}, '"if"'),
        ({"contains": {}}, "contains"),
        ({"const": "a\x01"}, "control character"),
        ({"type": "object", "x-guidance": {"lenient": True}}, "x-guidance"),
        ({"type": "string", "format": "colour"}, "colour"),
        ({"type": "string", "format": "byte"}, "byte"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum"),
        ({"enum": []}, "cannot be satisfied"),
        (False, "false"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types"),
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, "'a'"),
        ({"type": "object", "minProperties": 2}, "minProperties"),
        ({"type": "object", "properties": {"child": {"$ref": "#"}}, "required": ["child"]}, "no end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "no end"),
        ({"$ref": "https://example.com/schema"}, "example.com"),
        ({"type": "string", "pattern": "^(?=a)b"}, "look-around"),
        ({"type": "thing"}, "thing"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ([], "not an object"),
        ({"enum": [float("nan")]}, "not JSON"),
        ({"description": "x" * 300_000}, "characters"),
        ({"properties": {f"p{i}": {} for i in range(2000)}}, "more than 1000 parts"),
        ({"const": 2**53 + 1}, "9007199254740993"),
    ],
)
def test_schemas_that_cannot_be_honoured_are_refused_by_name(byte_tokenizer, schema, words: str) -> None:
    with pytest.raises(TinyslmError) as caught:
        Grammar.json_schema(schema, byte_tokenizer)
    assert words in caught.value.problem
    assert caught.value.remedy


def test_a_deeply_nested_schema_is_refused(byte_tokenizer) -> None:
    schema: dict = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(TinyslmError, match="nested"):
        Grammar.json_schema(schema, byte_tokenizer)


def test_choices_end_where_one_ends(byte_tokenizer) -> None:
    stop = set(byte_tokenizer.stop_ids)
    matcher = Grammar.choices(["yes", "no", "yes please"], byte_tokenizer).matcher()
    assert allowed(matcher) == {ord("y"), ord("n")}
    assert matcher.take(b"yes") == 3
    assert matcher.accepts
    assert not matcher.finished
    assert allowed(matcher) == {ord(" "), *stop}
    assert matcher.take(b" please") == 7
    assert matcher.finished
    assert allowed(matcher) == stop
    assert matcher.take([min(stop)]) == 1
    matcher.rollback(8)
    assert allowed(matcher) == {ord(" "), *stop}


def test_what_is_not_allowed_is_not_taken(byte_tokenizer) -> None:
    matcher = Grammar.regex("[0-9]{3}", byte_tokenizer).matcher()
    assert matcher.take(b"12x4") == 2
    assert matcher.take(b"y") == 0
    assert matcher.take(b"3") == 1
    assert matcher.finished
    assert matcher.take(b"4") == 0


def test_matchers_of_one_grammar_go_separate_ways(byte_tokenizer) -> None:
    grammar = Grammar.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}}, byte_tokenizer)
    first, second = grammar.matcher(), grammar.matcher()
    assert first.take(b'{"a":1}') == 7
    copied = first.copy()
    first.rollback(1)
    assert (first.finished, second.finished, copied.finished) == (False, False, True)
    assert second.take(b'{"b":[') == 6


def test_forced_text_is_given_ahead(byte_tokenizer) -> None:
    schema = {"type": "object", "properties": {"name": {"const": "x"}}, "required": ["name"]}
    schema["additionalProperties"] = False
    matcher = Grammar.json_schema(schema, byte_tokenizer).matcher()
    text = json.dumps({"name": "x"}, separators=(",", ":")).encode()
    assert bytes(matcher.forced()) == text
    assert matcher.take(matcher.forced()) == len(text)
    assert matcher.finished
    assert matcher.forced() == []


NODE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "branch"}, "left": {"$ref": "#/$defs/node"}},
                    "required": ["kind", "left"],
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "leaf"}, "value": {"type": "integer", "minimum": 100}},
                    "required": ["kind", "value"],
                },
            ]
        }
    },
}


def test_a_text_with_room_for_the_shortest_is_whole(byte_tokenizer) -> None:
    grammar = Grammar.json_schema(NODE, byte_tokenizer)
    shortest = grammar.closing.shortest
    assert shortest is not None
    most = len(shortest.ids)
    assert json.loads(byte_tokenizer.decode(shortest.ids)) == {"kind": "leaf", "value": 100}
    for room in range(most, most + 40):
        matcher, ids = grammar.matcher(), []
        while not matcher.finished:
            wanted = max(allowed(matcher) - set(byte_tokenizer.stop_ids))  # whatever goes on longest
            ids.append(matcher.settle(wanted, room - len(ids)))
            assert matcher.take(ids[-1:]) == 1
        assert len(ids) <= room
        jsonschema.validate(json.loads(byte_tokenizer.decode(ids)), NODE)


def test_a_token_stands_while_there_is_room(byte_tokenizer) -> None:
    matcher = Grammar.json_schema({"type": "string"}, byte_tokenizer).matcher()
    text = b'"abc'
    for place, byte in enumerate(text):
        assert matcher.settle(byte, 6 - place) == byte
        matcher.take([byte])
    assert matcher.settle(ord("d"), 2) == ord("d")
    matcher.take(b"d")
    assert matcher.settle(ord("e"), 1) == ord('"')
    matcher.rollback(1)
    assert matcher.settle(ord("e"), 2) == ord("e")


def test_a_token_stands_if_no_ending_is_found_but_there_is_room(byte_tokenizer) -> None:
    def matcher():
        return Grammar.lark(f'start: "a" | "b" {" ".join(["LONG"] * 6)}\nLONG: /q{{800}}/', byte_tokenizer).matcher()

    assert matcher().settle(ord("b"), 500) == ord("b")  # its ending is longer than what is searched
    assert matcher().settle(ord("b"), 3) == ord("a")


def test_nothing_helps_a_text_without_room(byte_tokenizer) -> None:
    matcher = Grammar.regex("[a-z]{20}", byte_tokenizer).matcher()
    assert matcher.settle(ord("x"), 3) == ord("x")


def test_many_choices_and_properties_are_followed(byte_tokenizer) -> None:
    choices = Grammar.choices([f"choice number {number}" for number in range(10_000)], byte_tokenizer).matcher()
    assert choices.take(b"choice number 9999") == 18
    schema = {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(900)}}
    matcher = Grammar.json_schema(schema, byte_tokenizer).matcher()
    assert matcher.take(b'{"p3":1,"p899":2}') == 17
    assert matcher.accepts


def test_a_grammar_that_is_too_costly_is_refused_or_ends_with_an_error(byte_tokenizer) -> None:
    with pytest.raises(TinyslmError, match="costly"):  # noqa: PT012  (each may be the one)
        matcher = Grammar.lark('start: "a" start', byte_tokenizer).matcher()
        while matcher.take(b"a"):
            allowed(matcher)


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"type": "string", "nullable": True}, ["null", '"a"'], ["1"]),
        ({"type": "integer", "format": "int32"}, ["-2147483648", "2147483647"], ["2147483648"]),
        ({"type": ["string", "null"], "format": "date"}, ['"2024-02-29"', "null"], ['"2023-02-29"', '"0000-01-01"']),
        ({"type": "string", "format": "date-time"}, ['"2000-02-29T23:59:59.5+01:30"'], ['"1900-02-29T00:00:00Z"']),
        ({"oneOf": [{"const": 1}, {"const": 2}, {"type": "string"}]}, ["1", "2", '"x"'], ["3"]),
        (
            {
                "oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
                "discriminator": {"propertyName": "kind"},
                "$defs": {
                    "a": {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]},
                    "b": {"type": "object", "properties": {"kind": {"enum": ["b", "c"]}}, "required": ["kind"]},
                },
            },
            ['{"kind":"a"}', '{"kind":"c"}'],
            ['{"kind":"d"}'],
        ),
        (  # keys cannot be spelled in another way, nor named ones come late with another type
            {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
            ['{"a":1,"b":"x"}'],
            ['{"\\u0061":"x"}', '{"b":"x","a":"y"}'],
        ),
    ],
)
def test_what_schemas_mean(byte_tokenizer, schema: dict, valid: list[str], invalid: list[str]) -> None:
    grammar = Grammar.json_schema(schema, byte_tokenizer)

    def is_valid(text: str) -> bool:
        matcher = grammar.matcher()
        return matcher.take(text.encode()) == len(text.encode()) and matcher.accepts

    assert [text for text in [*valid, *invalid] if is_valid(text)] == valid


def test_masks_of_a_batch_hide_logits(byte_tokenizer) -> None:
    size = byte_tokenizer.vocab_size
    grammar = Grammar.choices(["yes", "no"], byte_tokenizer)
    rows = np.full((3, -(-size // 32)), 0xFFFFFFFF, np.uint32)  # the second text is free
    going = grammar.matcher()
    going.take(b"y")
    grammar.matcher().allow(rows[0])
    going.allow(rows[2])
    logits = torch.zeros(3, size)
    hide(logits, rows)
    kept = [logits[row].isfinite().nonzero().flatten().tolist() for row in range(3)]
    assert kept == [[ord("n"), ord("y")], list(range(size)), [ord("e")]]


@pytest.mark.parametrize(
    "make",
    [
        lambda tokenizer: Grammar.regex("a\ud800", tokenizer),
        lambda tokenizer: Grammar.lark('start: "\udfff"', tokenizer),
        lambda tokenizer: Grammar.choices(["a", "\ud800"], tokenizer),
        lambda tokenizer: Grammar.json_schema({"properties": {"\ud800": {}}}, tokenizer),
    ],
    ids=["regex", "lark", "choices", "schema"],
)
def test_half_a_character_is_refused(byte_tokenizer, make) -> None:
    with pytest.raises(TinyslmError, match="half of a character"):
        make(byte_tokenizer)


def test_expressions_that_repeat_repeats_are_compiled_in_no_time(byte_tokenizer) -> None:
    grammar = Grammar.regex("(a{200}){200}", byte_tokenizer)  # each letter alone would take minutes
    assert len(grammar.closing.shortest.letters) == 40_000


def test_forced_text_leaves_a_space_for_the_word_behind_it() -> None:
    """Indentation is forced, what follows is not: its tokens are those of the whole text, "\\n   " and " name"."""
    texts = [f"source:\n    {word}: {number}\n    {word}: none\n" for word in ("name", "kind") for number in range(50)]
    tokenizer = train_tokenizer(texts, vocab_size=300)
    grammar = Grammar.lark(
        'start: "source:\\n" item~1..2\nitem: "    " ("name" | "kind") ": " /[a-z0-9]+/ "\\n"', tokenizer
    )
    for text in ("source:\n    name: 7\n", "source:\n    kind: 12\n    name: none\n"):
        matcher = grammar.matcher(continues=False)
        ids = tokenizer.encode(text)
        assert any(tokenizer.token_bytes(token).endswith((b" name", b" kind")) for token in ids), "the case is there"
        for token in ids:
            assert token in allowed(matcher), (text, tokenizer.token_bytes(token))
            assert matcher.take([token]) == 1
