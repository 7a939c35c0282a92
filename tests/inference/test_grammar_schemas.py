"""Random walks through the masks of many schemas: whatever a model prefers, the document is valid and comes in time."""

import json
import random
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_folders import MAKES, write_folder

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.grammar import Grammar, unpacked
from tinyslm.tokenizer.tokenizer import TextStream, Tokenizer

SCHEMAS = {file.stem: file for file in sorted(Path(__file__).parents[2].glob("benchmarks/schemas/*.json"))}


@cache
def schema_of(name: str) -> dict:
    return json.loads(SCHEMAS[name].read_text())


def walk(grammar: Grammar, tokenizer: Tokenizer, seed: int, *, room: int, continues: bool = True) -> str:
    """A text of at most `room` tokens, each drawn evenly from those that are allowed."""
    draw = random.Random(seed)
    row = np.zeros(-(-grammar.vocab_size // 32), np.uint32)
    matcher, stream = grammar.matcher(continues=continues), TextStream(tokenizer, continues=continues)
    text = ""
    for left in range(room, 0, -1):
        if matcher.finished:
            break
        matcher.allow(row)
        choices = np.flatnonzero(unpacked(row, grammar.vocab_size))
        token = matcher.settle(int(draw.choice(choices)), left)
        assert matcher.take([token]) == 1
        if token in tokenizer.stop_ids:
            break
        text += stream.push(token)
    return text + stream.flush()


def validate(text: str, schema) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))


def test_there_are_thirty_schemas() -> None:
    assert len(SCHEMAS) == 30


@pytest.mark.parametrize("name", SCHEMAS)
def test_documents_of_the_collection_are_valid(byte_tokenizer, name: str) -> None:
    schema = schema_of(name)
    grammar = Grammar.json_schema(schema, byte_tokenizer)
    shortest = len(grammar.closing.shortest.ids)
    for seed in range(10):
        validate(walk(grammar, byte_tokenizer, seed, room=shortest + 8 * seed), schema)


@pytest.fixture(scope="module", params=MAKES)
def family(request, tmp_path_factory) -> Tokenizer:
    return Tokenizer.load(write_folder(request.param, tmp_path_factory.mktemp("make") / request.param))


@pytest.mark.parametrize("name", ["book_list", "comment_thread", "event_log"])
@pytest.mark.parametrize("continues", [True, False])
def test_documents_are_valid_with_any_tokenizer(family, name: str, continues: bool) -> None:
    schema = schema_of(name)
    grammar = Grammar.json_schema(schema, family)
    shortest = len(grammar.closing.shortest.ids)
    for seed in range(4):
        validate(walk(grammar, family, seed, room=shortest + 9 * seed, continues=continues), schema)


def test_the_tokenizers_own_spelling_is_allowed(family) -> None:
    document = {"the story": "once upon a time", "kind": "été", "tag": "<|im_end|>"}
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in document}}
    grammar = Grammar.json_schema({**schema, "required": [*document]}, family)
    ids = family.encode(json.dumps(document, separators=(",", ":"), ensure_ascii=False))
    matcher = grammar.matcher(continues=False)
    taken = 0
    while taken < len(ids):
        forced = matcher.forced()
        assert forced == ids[taken : taken + len(forced)]  # so that jumping writes what the tokenizer would
        taken += matcher.take(forced or ids[taken : taken + 1])
    assert matcher.finished


def test_special_tokens_are_no_text(family) -> None:
    matcher = Grammar.regex("(?s:.*)", family).matcher()
    row = np.zeros(-(-family.vocab_size // 32), np.uint32)
    matcher.allow(row)
    allowed = set(np.flatnonzero(unpacked(row, family.vocab_size)).tolist())
    assert allowed & set(family.special_ids.values()) == allowed & set(family.stop_ids) == set(family.stop_ids)


# Schemas that nobody wrote.

NAMES = st.sampled_from(["a", "b", "the name", "é", 'q"', "n\n"])
BOUNDS = st.integers(-150, 150)
SCALARS = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.fixed_dictionaries({"type": st.sampled_from(["integer", "number"])}, optional={"minimum": BOUNDS}),
    st.fixed_dictionaries(
        {"type": st.just("integer")}, optional={"exclusiveMaximum": BOUNDS, "multipleOf": st.just(3)}
    ),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 5)}),
    st.fixed_dictionaries(
        {"type": st.just("string"), "pattern": st.sampled_from(["^[a-c]{2,4}$", "x", "^(one|two)+!$"])}
    ),
    st.lists(st.one_of(st.none(), st.integers(-5, 5), NAMES), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.one_of(NAMES, st.integers(), st.booleans()).map(lambda value: {"const": value}),
)


def parts(inner):
    properties = st.dictionaries(NAMES, inner, max_size=3)
    objects = st.tuples(properties, st.one_of(st.booleans(), inner), st.sets(NAMES, max_size=2)).map(
        lambda given: {
            "type": "object",
            "properties": given[0],
            "additionalProperties": given[1],
            "required": sorted(given[2] & given[0].keys()),
        }
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner},
        optional={
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(2, 4),
            "prefixItems": st.lists(inner, max_size=2),
        },
    )
    unions = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        objects, arrays, unions.map(lambda some: {"anyOf": some}), unions.map(lambda some: {"oneOf": some})
    )


@settings(deadline=None, max_examples=300)
@given(schema=st.recursive(SCALARS, parts, max_leaves=6), seed=st.integers(0, 1000))
def test_documents_of_random_schemas_are_valid(byte_tokenizer, schema: dict, seed: int) -> None:
    try:
        grammar = Grammar.json_schema(schema, byte_tokenizer)
    except TinyslmError:  # two alternatives of a oneOf that hold at once, or bounds that exclude each other
        return
    shortest = grammar.closing.shortest
    assert shortest is not None
    for room in (len(shortest.ids), len(shortest.ids) + seed % 50):
        validate(walk(grammar, byte_tokenizer, seed, room=room), schema)
