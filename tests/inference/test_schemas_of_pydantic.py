"""Sets and dictionaries as pydantic describes them, and e-mail addresses: nothing invalid passes for valid."""

import json
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from tinyslm.batch.generators import result_of
from tinyslm.batch.openai_requests import answer_requests
from tinyslm.core.errors import TinyslmError
from tinyslm.data.rows import Row
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.json_schema import check_schema
from tinyslm.inference.output_constraint import OutputConstraint, is_complete
from tinyslm.inference.request import Completion, Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.uniqueness import repeats
from tinyslm.serving.app import engine_app

A, B = "a" * 64, "b" * 63


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    """With sets and dictionaries inside others."""

    sizes: dict[Literal["s", "m"], int]
    tags: set[Literal["new", "old"]] = Field(min_length=1)


def allows(schema: dict, value: object, tokenizer) -> bool:
    matcher = Grammar.json_schema(schema, tokenizer).matcher()
    ids = tokenizer.encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
    return matcher.take(ids) == len(ids) and matcher.accepts


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (dict[Literal["a", "b"], int], [{}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}], [{"c": 1}, {"a": "x"}]),
        (dict[Colour, bool], [{"red": True}], [{"green": True}]),
        ({"type": "object", "propertyNames": {"pattern": "^[a-z]{2}$"}}, [{"de": 1}], [{"DE": 1}, {"deu": 1}]),
        (dict[Annotated[str, StringConstraints(max_length=2)], int], [{}, {"ab": 1}], [{"abc": 1}]),
        (dict[str, int], [{"x": 1}], [{"x": "y"}]),
        (set[Literal["x", "y"]], [[], ["x"], ["y", "x"]], [["x", "x"], ["z"]]),
        (set[bool], [[True, False]], [[True, True]]),
        (set[Colour], [["red", "blue"]], [["red", "red"]]),
        (
            Item,
            [{"sizes": {"m": 3}, "tags": ["old"]}],
            [{"sizes": {}, "tags": []}, {"sizes": {"l": 1}, "tags": ["new"]}],
        ),
    ],
    ids=str,
)
def test_what_the_grammar_itself_allows(byte_tokenizer, kind, right, wrong) -> None:
    schema = kind if isinstance(kind, dict) else TypeAdapter(kind).json_schema()
    for value in right:
        assert allows(schema, value, byte_tokenizer), value
    for value in wrong:
        assert not allows(schema, value, byte_tokenizer), value


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "object", "propertyNames": {"anyOf": [{"const": "a"}, {"pattern": "x"}]}}, "propertyNames"),
        ({"type": "array", "uniqueItems": 1}, "uniqueItems"),
        ({"type": "array", "items": {"enum": ["a"]}, "uniqueItems": True, "minItems": 2}, "2 different items"),
    ],
)
def test_what_cannot_be_honoured_is_refused(schema, word: str) -> None:
    with pytest.raises(TinyslmError, match=word):
        check_schema(schema)


@pytest.mark.parametrize(
    ("address", "right"),
    [
        (f"{A}@b.org", True),
        (f"{A}a@b.org", False),
        (f"a@{B}.org", True),
        (f"a@{B}b.org", False),
        (f"{A}@{B}.{B}.{'c' * 57}.org", True),  # 254
        (f"{A}@{B}.{B}.{'c' * 58}.org", False),
        ("first.last+tag@mail.example.org", True),
        (".a@b.org", False),
        ("a..b@c.org", False),
        ("a@-b.org", False),
    ],
)
def test_addresses_are_no_longer_than_mail_allows(byte_tokenizer, email_grammar, address: str, right: bool) -> None:
    ids = byte_tokenizer.encode(json.dumps(address))
    matcher = email_grammar.matcher()
    assert (matcher.take(ids) == len(ids) and matcher.accepts) == right


@pytest.fixture(scope="module")
def email_grammar(byte_tokenizer) -> Grammar:
    return Grammar.json_schema({"type": "string", "format": "email"}, byte_tokenizer)


TAGS = {"type": "object", "properties": {"tags": {"type": "array", "items": {"enum": list("ab")}, "uniqueItems": True}}}
DIGITS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "uniqueItems": True, "minItems": 5}


def test_equal_items_are_found_wherever_they_are() -> None:
    assert repeats('{"tags":["a","a"]}', TAGS)
    assert not repeats('{"tags":["a","b"]}', TAGS)
    assert repeats("[1,2,1.0]", DIGITS)
    assert not repeats("[1,true,[],[1]]", {"uniqueItems": True})
    assert not repeats("[1,1", DIGITS)
    nested = {
        "$defs": {"t": {"type": "array", "uniqueItems": True}},
        "anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}],
    }
    assert repeats('[{"a":[1]},{"a":[1]}]', nested)
    assert not repeats("null", nested)


@pytest.fixture(scope="module")
def answers(make_engine):
    """Forty documents, of which some repeat a digit."""
    engine = make_engine()
    grammar = Grammar.json_schema(DIGITS, engine.tokenizer)
    request = Request(engine.prompt_ids("x"), SamplingSettings(max_tokens=24, temperature=2, seed=0), 40, grammar)
    return request, engine.submit(request).whole()


def test_a_document_that_repeats_items_ends_as_invalid(answers) -> None:
    request, completions = answers
    finishes = {one.finish: one for one in completions}
    assert {"stop", "invalid"} <= finishes.keys()
    for one in completions:
        assert (one.finish == "invalid") == repeats(one.text, DIGITS)
        assert is_complete(request, one) == (one.finish != "invalid")


def test_rows_with_repeated_items_have_an_error(answers) -> None:
    request, completions = answers

    def result(one: Completion) -> dict:
        return result_of(request, one, OutputConstraint("schema", DIGITS))

    invalid = result(next(one for one in completions if one.finish == "invalid"))
    assert "uniqueItems" in invalid["error"]
    assert invalid["value"] is None
    valid = result(next(one for one in completions if one.finish == "stop"))
    assert valid["error"] is None
    assert len(valid["value"]) == len(set(valid["value"])) >= 5


def test_the_server_gives_a_reason_that_clients_do_not_read_as_success(make_engine) -> None:
    engine = make_engine(context=512)
    engine.start()
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": DIGITS}}
    plain = {"max_tokens": 24, "temperature": 2.0, "seed": 0}
    question = [{"role": "user", "content": "x"}]
    text = {"format": {"type": "json_schema", "name": "x", "schema": DIGITS}}
    bodies = [("/v1/chat/completions", {**plain, "messages": question, "n": 12, "response_format": form})]
    bodies += [("/v1/responses", {"input": "x", "temperature": 2.0, "text": text, "max_output_tokens": 24})] * 8
    rows = [
        Row(number, {"custom_id": str(number), "method": "POST", "url": url, "body": {"model": "m", **body}})
        for number, (url, body) in enumerate(bodies)
    ]
    chat, *responses = (done.result["response"]["body"] for done in answer_requests(engine_app(engine), iter(rows), 4))
    assert {"stop", "content_filter"} == {choice["finish_reason"] for choice in chat["choices"]}
    for choice in chat["choices"]:
        assert (choice["finish_reason"] == "content_filter") == repeats(choice["message"]["content"], DIGITS)
    for one in responses:
        said = one["output"][0]["content"][0]["text"]
        wanted = ("incomplete", {"reason": "content_filter"}) if repeats(said, DIGITS) else ("completed", None)
        assert (one["status"], one["incomplete_details"]) == wanted
    engine.close()
