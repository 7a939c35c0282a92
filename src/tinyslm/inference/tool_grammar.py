"""The grammar for a model with tools: text, and calls whose arguments follow each tool's parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.schema_rewriting import LISTS, MAPS, SCHEMAS
from tinyslm.tokenizer.tool_calls import CLOSE, OPEN, Tools, check_tools, reads_tools

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar
    from tinyslm.tokenizer.tokenizer import Tokenizer

_COMBINING = ("allOf", "anyOf", "oneOf")
_DESCRIBING = {*_COMBINING, "$ref", "properties", "patternProperties"}


def tools_grammar(tools: Tools, choice: str, parallel: bool, tokenizer: Tokenizer) -> Grammar | None:
    """The grammar for a model with these tools; `None` if there is nothing to enforce.

    choice: "auto" (text, calls, or text before calls), "required" (calls only), "none", or the name of the tool to
    call. parallel: more than one call is allowed; one that repeats another ends the text. Arguments follow each tool's
    parameters, whose objects are `closed`.
    Raises `TinyslmError`, naming the tool, for parameters that cannot be honoured.
    """
    from tinyslm.inference.grammar import Grammar

    listed = check_tools(tools)
    if choice == "none" or (choice == "auto" and not listed):
        return None
    if choice not in ("auto", "required"):
        listed = [tool for tool in listed if tool["name"] == choice]
    if not listed:
        names = ", ".join(tool["name"] for tool in check_tools(tools)) or "none"
        raise TinyslmError(f"There is no tool for the choice {choice!r}; there are: {names}.", "Name one of the tools.")
    separators = call_separators(tokenizer)
    rules = [_rule(number, tool, separators) for number, tool in enumerate(listed)]
    several = parallel and choice in ("auto", "required")
    frame = _frame(len(listed), choice == "auto", several, tokenizer)
    grammar = Grammar.lark("\n".join([frame, *rules]), tokenizer)
    grammar.calls = True
    return grammar


def call_separators(tokenizer: Tokenizer) -> tuple[str, str]:
    """The item and key separators of the JSON of a call, as in `json.dumps`.

    Calls are compact, unless the chat template writes them: then they have the form that the model was trained on,
    which is that of Jinja's `tojson`, with a space after commas and colons.
    """
    return (", ", ": ") if reads_tools(tokenizer) else (",", ":")


def closed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a tool, with `additionalProperties: false` in objects that name their properties.

    A given `additionalProperties` stays. Objects that name no properties stay open, except for the
    parameters themselves; so do objects whose properties are described in several places (by `allOf`, or by `anyOf`,
    `oneOf` or `$ref` next to `properties`), because each place would forbid the properties of the others.
    """
    shared: set[str] = set()
    while new := set(_shared(parameters, "#", shared)) - shared:
        shared |= new
    whole: dict[str, Any] = _closed(parameters, "#", shared, alone=True)
    if not _is_combined(whole):
        whole.setdefault("additionalProperties", False)
    return whole


def _closed(part: Any, place: str, shared: set[str], *, alone: bool) -> Any:
    """`alone`: nothing else describes the same value."""
    if not isinstance(part, Mapping):
        return part
    alone = alone and place not in shared
    new = dict(part)
    for keyword, name, inner in _parts(part):
        where = f"{place}/{keyword}" if name is None else f"{place}/{keyword}/{name}"
        value = _closed(inner, where, shared, alone=_is_alone(part, keyword, alone=alone))
        if name is None:
            new[keyword] = value
            continue
        if new[keyword] is part[keyword]:
            new[keyword] = dict(part[keyword]) if keyword in MAPS else list(part[keyword])
        new[keyword][name] = value
    if alone and part.get("properties") and not _is_combined(part):
        new.setdefault("additionalProperties", False)
    return new


def _shared(part: Any, place: str, shared: set[str], *, alone: bool = True) -> Iterator[str]:
    """References to parts that describe a value together with others."""
    if not isinstance(part, Mapping):
        return
    alone = alone and place not in shared
    reference = part.get("$ref")
    if isinstance(reference, str) and not (alone and part.keys().isdisjoint(_DESCRIBING - {"$ref"})):
        yield reference
    for keyword, name, inner in _parts(part):
        where = f"{place}/{keyword}" if name is None else f"{place}/{keyword}/{name}"
        yield from _shared(inner, where, shared, alone=_is_alone(part, keyword, alone=alone))


def _parts(part: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The schemas directly within a schema: keyword, name or number under it, schema."""
    for keyword, value in part.items():
        if keyword in MAPS and isinstance(value, Mapping):
            yield from ((keyword, name, inner) for name, inner in value.items())
        elif keyword in LISTS and isinstance(value, list | tuple):
            yield from ((keyword, number, inner) for number, inner in enumerate(value))
        elif keyword in SCHEMAS:
            yield keyword, None, value


def _is_alone(part: Mapping[str, Any], keyword: str, *, alone: bool) -> bool:
    """Whether nothing else describes the values that a schema under `keyword` of `part` describes."""
    if keyword not in _COMBINING:
        return True
    branches = [found for found, _, _ in _parts(part) if found in _COMBINING]
    either = keyword != "allOf" and set(branches) == {keyword}
    return alone and (either or len(branches) == 1) and part.keys().isdisjoint({"properties", "$ref"})


def _is_combined(part: Mapping[str, Any]) -> bool:
    """Whether properties are described elsewhere, too; alternatives that only require some of them do not count."""
    branches = [inner for keyword, _, inner in _parts(part) if keyword in _COMBINING and isinstance(inner, Mapping)]
    return "$ref" in part or any(_DESCRIBING & branch.keys() for branch in branches)


def _rule(number: int, tool: Mapping[str, Any], separators: tuple[str, str]) -> str:
    """Lark rules for a call of one tool."""
    from tinyslm.inference.json_schema import check_schema

    parameters = tool.get("parameters")
    try:
        schema = closed(check_schema({} if parameters is None else parameters))
    except TinyslmError as error:
        raise TinyslmError(f"The tool {tool['name']!r} cannot be used: {error.problem}", error.remedy) from None
    item, key = separators
    begin = json.dumps(f'{{"name"{key}"{tool["name"]}"{item}"arguments"{key}')
    spelling = {
        "whitespace_flexible": False,
        "item_separator": item,
        "key_separator": key,
        "json_allowed_escapes": 'nrbtf\\"',
    }
    arguments = json.dumps({**schema, "type": "object", "x-guidance": spelling})
    return f'tool_{number}: {begin} arguments_{number} "}}"\narguments_{number}: %json {arguments}'


def _frame(count: int, text: bool, several: bool, tokenizer: Tokenizer) -> str:
    """Lark rules for the text around calls.

    A tag that is a special token is given by its id; other tags are text, in any tokenization.
    """
    tags = {tag: tokenizer.special_ids.get(tag) for tag in (OPEN, CLOSE)}
    begin, end = (json.dumps(tag) if token is None else f"<[{token}]>" for tag, token in tags.items())
    more = f'("\\n" {begin} call)*' if several else ""
    lines = [
        f'call: "\\n" ({" | ".join(f"tool_{number}" for number in range(count))}) "\\n" {end}',
        f"start: first {more}".rstrip() if not text else f"start: words | spoken call {more}".rstrip(),
    ]
    if not text:
        return "\n".join([*lines, f"first: {begin} call"])
    spoken = f"spoken[lazy]: WORDS {begin}" if tags[OPEN] is None else f"spoken: words {begin}"
    return "\n".join([*lines, spoken, "words: WORDS", "WORDS: /(?s:.*)/"])
