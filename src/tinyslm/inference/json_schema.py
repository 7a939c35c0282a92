"""Which JSON schemas can be honoured, checked before they are compiled.

JSON Schema says that unknown keywords are to be ignored. Here they are refused: someone who writes "minLenght" or "not"
wants something of the document, and would find out from a document that lacks it. llguidance refuses some keywords
itself; what it would pass over in silence is refused here, where the place in the schema is known too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.inference.schema_rewriting import LISTS, MAPS, SCHEMAS, rewritten

LARGEST = 1 << 18  # characters as JSON
DEEPEST = 64  # levels of lists and objects
MOST_PARTS = 1_000  # schemas within the schema: compiling takes time with their number
MOST_REWRITTEN = 5_000  # of them, after each listed name got a schema of its own
LONGEST_REWRITTEN = 1 << 20  # characters after that

_VALUES = {
    *("type", "const", "enum", "$ref", "required"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "format"),
    *("nullable", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_REMARKS = {  # say nothing about which documents are valid
    *("$schema", "$id", "id", "$anchor", "$comment", "title", "description", "default", "examples", "example"),
    *("deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding", "discriminator"),
}
KEYWORDS = SCHEMAS | LISTS | MAPS | _VALUES | _REMARKS
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")

_UNWRITABLE = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")  # without \u escapes

_INSTEAD = {
    "not": "List what is allowed instead (enum, pattern, anyOf).",
    "if": "Write the cases as anyOf.",
    "uniqueItems": "Use true or false.",
    "propertyNames": "Give the names with enum or a pattern, and leave out patternProperties.",
    "contains": "Describe all items with items and prefixItems.",
    "dependentRequired": "Write the cases as anyOf.",
    "unevaluatedProperties": "Use additionalProperties next to properties.",
    "$dynamicRef": "Use $ref.",
    "x-guidance": "Leave it out.",
}


def check_schema(schema: object) -> dict[str, Any]:
    """The schema, ready for llguidance, as an object.

    Raises `TinyslmError`, with the place and the keyword, for one that is not a schema, too large, uses a keyword that
    would be ignored, or allows only documents without an end.
    """
    if schema is True:
        return {}
    if schema is False:
        raise TinyslmError("The JSON schema is false: no document is valid.", "Describe what is wanted.")
    if not isinstance(schema, Mapping):
        raise TinyslmError(
            f"The JSON schema is not an object but {schema!r:.80}.", 'Give one such as {"type": "object"}.'
        )
    check_size(schema)
    _check_count(schema, MOST_PARTS)
    schema = rewritten(schema)
    _check_count(schema, MOST_REWRITTEN)
    if len(json.dumps(schema)) > LONGEST_REWRITTEN:
        raise TinyslmError(
            f"The JSON schema has more than {LONGEST_REWRITTEN:,} characters once lists of names are written out.",
            "List fewer names, or give their values a smaller schema.",
        )
    parts = dict(_parts(schema, "#"))
    for place, part in parts.items():
        _check_part(place, part)
    if any("$ref" in part for part in parts.values() if isinstance(part, Mapping)):
        _check_ends(parts)
    return schema


def _check_count(schema: Mapping[str, Any], most: int) -> None:
    if sum(1 for _ in islice(_parts(schema, "#"), most + 1)) > most:
        raise TinyslmError(f"The JSON schema has more than {most} parts.", "Use fewer, or name them with $defs.")


def check_size(schema: Mapping[str, Any]) -> None:
    """Raise `TinyslmError` for a schema that is not JSON, too long, or nested too deep."""
    level: list[Any] = [schema]
    for _ in range(DEEPEST):
        level = [value for values in level for value in _inner(values)]
        if not level:
            break
    else:
        raise TinyslmError(f"The JSON schema is nested more than {DEEPEST} deep.", "Name parts with $defs and $ref.")
    try:
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TinyslmError(f"The JSON schema is not JSON: {error}.", "Use texts, numbers, lists and objects.") from None
    if len(text) > LARGEST:
        raise TinyslmError(f"The JSON schema has {len(text)} characters.", f"Use one of at most {LARGEST}.")
    check_characters(text, "The JSON schema")


def check_characters(text: str, what: str) -> None:
    """Raise `TinyslmError` for half of a surrogate pair: no text can have it, as there is no UTF-8 for it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise TinyslmError(f"{what} has {half}, half of a character.", "Write whole characters.") from None


def _inner(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _parts(schema: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Each schema within the schema, with its place as a JSON pointer, itself first."""
    yield place, schema
    if not isinstance(schema, Mapping):
        return
    for keyword, value in schema.items():
        here = f"{place}/{_escaped(str(keyword))}"
        if keyword in MAPS and isinstance(value, Mapping):
            for name, inner in value.items():
                yield from _parts(inner, f"{here}/{_escaped(str(name))}")
        elif keyword in LISTS and isinstance(value, list | tuple):
            for number, inner in enumerate(value):
                yield from _parts(inner, f"{here}/{number}")
        elif keyword in SCHEMAS:
            yield from _parts(value, here)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _check_part(place: str, part: Any) -> None:
    if isinstance(part, bool):
        return
    if not isinstance(part, Mapping):
        raise TinyslmError(f"The JSON schema has {part!r:.60} at {place}, where a schema belongs.", "Put one there.")
    for keyword in part:
        if keyword not in KEYWORDS and (not str(keyword).startswith("x-") or keyword == "x-guidance"):
            raise TinyslmError(
                f'The JSON schema uses "{keyword}" at {place}, which cannot be honoured.',
                _INSTEAD.get(str(keyword)) or did_you_mean(str(keyword), KEYWORDS),
            )
    for keyword, value in part.items():
        if keyword in ("const", "enum", "properties", "required"):
            _check_values(f'"{keyword}" at {place}', value)
        elif isinstance(value, int) and keyword in _VALUES:
            _check_values(f'"{keyword}" at {place}', [value])
    _check_format(place, part)
    _check_free_keys(place, part)


def _check_values(where: str, values: Any) -> None:
    """Refuse what llguidance cannot write: some characters without escapes, and integers as exact as they are."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        waiting += [*value, *value.values()] if isinstance(value, Mapping) else _inner(value)
        if isinstance(value, str) and _UNWRITABLE.search(value):
            raise TinyslmError(
                f"The JSON schema has a control character in {where}, which cannot be written.",
                "Leave it out; tabs and line ends are possible.",
            )
        if isinstance(value, int) and abs(value) > 2**53:
            raise TinyslmError(
                f"The JSON schema has the number {value} in {where}: beyond 2**53 not every integer is exact.",
                "Use smaller numbers, or text.",
            )


def _check_format(place: str, part: Mapping[str, Any]) -> None:
    """llguidance reads formats of texts only, and passes over those of numbers."""
    if "format" not in part:
        return
    kinds = part.get("type", "string")
    if part["format"] not in FORMATS or "string" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise TinyslmError(
            f"The JSON schema has the format {part['format']!r} for the type {kinds!r} at {place}, which cannot be "
            "honoured.",
            f"Leave it out, use bounds or a pattern, or one of these for a string: {', '.join(FORMATS)}.",
        )


def _check_free_keys(place: str, part: Mapping[str, Any]) -> None:
    """Keys that a schema does not name may come twice, so that they cannot be counted."""
    least, required = part.get("minProperties", 0), part.get("required", [])
    if isinstance(least, int) and isinstance(required, list) and least > len(required) + 1:
        raise TinyslmError(
            f"The JSON schema wants minProperties {least} at {place}, where fewer keys are required by name: the "
            "others could be the same one.",
            "Name more keys with properties and required, or use an array of pairs.",
        )


def _check_ends(parts: Mapping[str, Any]) -> None:
    """Refuse a schema all of whose documents are endless, as when each node must have a child node."""
    finite: set[str] = set()
    waiting, waiting_for = list(parts), _dependents(parts)
    while waiting:
        place = waiting.pop()
        if place not in finite and _is_finite(place, parts[place], finite, parts):
            finite.add(place)
            waiting += waiting_for.get(place, ())
    if "#" not in finite:
        names = sorted({part["$ref"] for place, part in parts.items() if isinstance(part, Mapping) and "$ref" in part})
        raise TinyslmError(
            f"The JSON schema refers to itself ({', '.join(names)}) so that a document would have no end.",
            "Make the part that refers back optional, an alternative (anyOf), or an array that may be empty.",
        )


def _dependents(parts: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each place, the places that may become finite when it is: the one around it, and those that refer to it."""
    found: dict[str, list[str]] = {}
    for place, part in parts.items():
        around = place.rpartition("/")[0]
        while around and around not in parts:
            around = around.rpartition("/")[0]
        if around:
            found.setdefault(place, []).append(around)
        if isinstance(part, Mapping) and isinstance(part.get("$ref"), str):
            found.setdefault(unquote(part["$ref"]), []).append(place)
    return found


def _is_finite(place: str, part: Any, finite: set[str], known: Collection[str]) -> bool:
    """Whether some value of the part has an end, given those that are known to have one.

    What is not known here (anchors, places that are not schemas) counts as finite: llguidance judges it.
    """
    if not isinstance(part, Mapping) or "const" in part or "enum" in part:
        return True

    def ends(where: str) -> bool:
        return where in finite or where not in known

    every = [f"{place}/allOf/{number}" for number in range(_count(part, "allOf"))]
    if isinstance(part.get("$ref"), str):
        every.append(unquote(part["$ref"]))
    for keyword in ("anyOf", "oneOf"):
        some = [f"{place}/{keyword}/{number}" for number in range(_count(part, keyword))]
        if some and not any(map(ends, some)):
            return False
    kinds = part.get("type", "string")
    kinds = {kinds} if isinstance(kinds, str) else set(map(str, kinds)) if isinstance(kinds, list) else {"string"}
    if kinds <= {"object", "array"}:
        inner = [_needed_by_object(place, part)] if "object" in kinds else []
        inner += [_needed_by_array(place, part)] if "array" in kinds else []
        if not any(all(map(ends, places)) for places in inner):
            return False
    return all(map(ends, every))


def _needed_by_object(place: str, part: Mapping[str, Any]) -> list[str]:
    properties = part.get("properties", {})
    required = part.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        return []
    return [
        f"{place}/properties/{_escaped(str(name))}" if name in properties else f"{place}/additionalProperties"
        for name in required
    ]


def _needed_by_array(place: str, part: Mapping[str, Any]) -> list[str]:
    least = part.get("minItems", 0)
    tuples = "prefixItems" if "prefixItems" in part else "items"
    count = _count(part, tuples)
    if not isinstance(least, int) or least <= 0:
        return []
    needed = [f"{place}/{tuples}/{number}" for number in range(min(least, count))]
    rest = "items" if tuples == "prefixItems" or not count else "additionalItems"
    return [*needed, f"{place}/{rest}"] if least > count else needed


def _count(part: Mapping[str, Any], keyword: str) -> int:
    """How many schemas are listed under the keyword."""
    value = part.get(keyword)
    return len(value) if isinstance(value, list | tuple) else 0
