"""Keywords of JSON schemas that llguidance does not know, said with those that it knows.

Rewritten are keywords that pydantic, OpenAPI and tool libraries often write: "nullable", formats that are only remarks
or bounds, "oneOf" whose alternatives exclude each other, which becomes "anyOf", and "propertyNames"; also dates and
e-mail addresses, of which llguidance allows invalid ones: February 29 in every year, names of any length.

"uniqueItems" becomes a list of the possible arrays if these are few. Otherwise it is removed, and the whole text is
checked when it is complete (see `uniqueness.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import combinations, permutations
from typing import Any
from urllib.parse import unquote

from tinyslm.core.errors import TinyslmError

SCHEMAS = {"items", "additionalItems", "additionalProperties"}  # keywords whose value is a schema
LISTS = {"anyOf", "oneOf", "allOf", "prefixItems", "items"}  # ... a list of schemas
MAPS = {"properties", "patternProperties", "$defs", "definitions"}  # ... schemas by name

_BOUNDS = {"int32": 2**31, "int64": 2**53}  # what programs that know only floating-point numbers can read
_REMARKS = {  # formats that any value of the type has
    "string": {"password", "path", "file-path", "directory-path", "binary"},
    "number": {"float", "double"},
    "integer": set(),
}
# RFC 3339 without what programs refuse: February 29 in other years, seconds of 60, small letters, the year 0.
_MONTH_AND_DAY = r"(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31"
_LEAP = r"([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_YEAR = r"([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_DATE = rf"({_YEAR}-({_MONTH_AND_DAY})|{_LEAP}-02-29)"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
_PATTERNS = {"date": _DATE, "time": _TIME, "date-time": f"{_DATE}T{_TIME}"}
# RFC 5321, 4.5.3.1: 64 octets before the @, 254 in all (which leaves 252 behind it); RFC 1035: 63 in a label.
_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL: list[dict[str, Any]] = [
    {"pattern": rf"^{_ATOM}(\.{_ATOM})*@({_LABEL}\.)+[A-Za-z]([A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?$"},
    {"pattern": "^[^@]{1,64}@[^@]+$", "maxLength": 254},
]
_NAMES = {**_PATTERNS, "uuid": "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}  # formats of names of properties

_DEEP = 4  # levels of objects in which alternatives are compared
_MANY = 50  # alternatives are compared in pairs
_MOST_NAMES = 500  # that become properties, each with its schema
_FEW = 4  # most values of which all arrays without repetition are listed (65 for four values)
_MOST_COMPARED = 50_000  # schemas and listed values: recursive objects could be compared in 300 ** 4 ways


def rewritten(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An equal schema that says less in other ways."""
    part: dict[str, Any] = _Rewriting(schema).part(schema)
    return part


class _Rewriting:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._moves = "/oneOf/" not in json.dumps(list(_references(root)))
        self._left = _MOST_COMPARED

    def part(self, part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        new = {keyword: self._inside(keyword, value) for keyword, value in part.items()}
        _without_format(new)
        self._without_names(new)
        self._without_uniqueness(new)
        options = part.get("oneOf")
        if isinstance(options, list) and self._moves and self._excludes(options):
            alternatives = new.pop("oneOf")
            if "anyOf" in new:
                _also(new, {"anyOf": alternatives})
            else:
                new["anyOf"] = alternatives
        return _with_null(new) if new.pop("nullable", False) is True else new

    def _inside(self, keyword: str, value: Any) -> Any:
        if keyword in MAPS and isinstance(value, Mapping):
            return {name: self.part(inner) for name, inner in value.items()}
        if keyword in LISTS and isinstance(value, list | tuple):
            return [self.part(inner) for inner in value]
        return self.part(value) if keyword in SCHEMAS else value

    def _without_names(self, new: dict[str, Any]) -> None:
        """Replace `propertyNames` by the properties that it allows, or by a pattern, if it can be expressed so."""
        names = self._target(new.get("propertyNames"))
        if names is None or "patternProperties" in new:
            return
        values, properties = new.get("additionalProperties", True), new.get("properties", {})
        listed = [names["const"]] if isinstance(names, Mapping) and "const" in names else _enum(names)
        if names is True or (isinstance(names, Mapping) and not _rules(names)):
            del new["propertyNames"]
        elif listed is not None and len(listed) <= _MOST_NAMES and isinstance(properties, Mapping):
            allowed = {name: properties.get(name, values) for name in listed if isinstance(name, str)}
            ordered = [*(name for name in properties if name in allowed), *allowed]
            new["properties"] = {name: allowed[name] for name in ordered if allowed[name] is not False}
            new["additionalProperties"] = False
            del new["propertyNames"]
        elif not properties and (pattern := _name_pattern(names)) is not None:
            new |= {"patternProperties": {pattern: values}, "additionalProperties": False}
            del new["propertyNames"]

    def _without_uniqueness(self, new: dict[str, Any]) -> None:
        if not isinstance(new.get("uniqueItems"), bool) or not new.pop("uniqueItems"):
            return
        items = self._target(new.get("items"))
        values = _enum(items) if isinstance(items, Mapping) else None
        if isinstance(items, Mapping) and items.get("type") == "boolean" and not values:
            values = [False, True]
        if values is None or not {"prefixItems", "additionalItems"}.isdisjoint(new):
            return
        values = list({json.dumps(one, sort_keys=True): one for one in values}.values())
        least, most = new.get("minItems", 0), new.get("maxItems", len(values))
        if not isinstance(least, int) or not isinstance(most, int):
            return
        if least > len(values):
            raise TinyslmError(
                f"The JSON schema cannot be satisfied: it wants {least} different items of {len(values)} values.",
                "Lower minItems, or leave out uniqueItems.",
            )
        new["maxItems"] = min(most, len(values))
        if len(values) <= _FEW and new.get("type") in (None, "array"):
            lengths = range(least, new["maxItems"] + 1)
            new["enum"] = [list(some) for length in lengths for some in permutations(values, length)]
            for keyword in ("type", "items", "minItems", "maxItems"):
                new.pop(keyword, None)

    def _excludes(self, options: list[Any]) -> bool:
        if len(options) > _MANY:
            return False
        return all(self._disjoint(one, other, _DEEP) for one, other in combinations(options, 2))

    def _disjoint(self, one: Any, other: Any, levels: int) -> bool:
        """Whether it is certain that no value is valid under both; `False` if the comparison would take too long."""
        one, other = self._target(one), self._target(other)
        self._left -= 1 + _listed(one) + _listed(other)
        if self._left < 0:
            return False
        if not isinstance(one, Mapping) or not isinstance(other, Mapping) or not levels:
            return False
        values = _values(one), _values(other)
        if values[0] is not None and values[1] is not None:
            return not values[0] & values[1]
        kinds = _kinds(one), _kinds(other)
        if not kinds[0] & kinds[1]:
            return True
        if kinds[0] & kinds[1] != {"object"}:
            return False
        mine, yours = _required(one), _required(other)
        return any(self._disjoint(mine[name], yours[name], levels - 1) for name in mine.keys() & yours.keys())

    def _target(self, part: Any) -> Any:
        """What a schema that is only a reference refers to."""
        for _ in range(_DEEP):
            reference = part.get("$ref") if isinstance(part, Mapping) else None
            if not isinstance(reference, str) or not reference.startswith("#/"):
                break
            part = self._root
            for step in unquote(reference[2:]).split("/"):
                name = step.replace("~1", "/").replace("~0", "~")
                part = part.get(name) if isinstance(part, Mapping) else None
        return part


def _listed(part: Any) -> int:
    """How many values a schema lists."""
    values = part.get("enum") if isinstance(part, Mapping) else None
    return len(values) if isinstance(values, list) else 0


def _references(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield value.get("$ref")
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner)


def _required(part: Mapping[str, Any]) -> dict[str, Any]:
    """Schemas of the properties that must be there."""
    properties, names = part.get("properties"), part.get("required")
    if not isinstance(properties, Mapping) or not isinstance(names, list):
        return {}
    return {name: properties[name] for name in map(str, names) if name in properties}


def _values(part: Mapping[str, Any]) -> set[str] | None:
    """The values that are allowed, where they are listed; 1.0 is 1."""
    listed = [part["const"]] if "const" in part else part.get("enum")
    if not isinstance(listed, list):
        return None
    return {json.dumps(int(one) if isinstance(one, float) and one.is_integer() else one) for one in listed}


def _kinds(part: Mapping[str, Any]) -> set[str]:
    """The types that are allowed; a whole number is a number, too."""
    everything = {"null", "boolean", "integer", "string", "array", "object"}
    listed = [part["const"]] if "const" in part else part.get("enum")
    if isinstance(listed, list):
        return {_kind(value) for value in listed}
    kinds = part.get("type", list(everything))
    found = {kinds} if isinstance(kinds, str) else set(map(str, kinds)) if isinstance(kinds, list) else everything
    return found | {"integer"} if "number" in found else found


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "integer", str: "string", list: "array"}
    return names.get(type(value), "object")


def _enum(part: Any) -> list[Any] | None:
    """The values that a schema lists with `enum`, if it has no other rules; `None` otherwise."""
    listed = part.get("enum") if isinstance(part, Mapping) else None
    return listed if isinstance(listed, list) and _rules(part) <= {"enum", "type"} else None


def _rules(part: Mapping[str, Any]) -> set[str]:
    """The keywords that restrict strings further than to be one."""
    return set(part) - {"title", "description", *(["type"] if part.get("type") == "string" else [])}


def _name_pattern(names: Any) -> str | None:
    """A regular expression for the names that a schema allows; `None` if it cannot be given."""
    rules = _rules(names) if isinstance(names, Mapping) else set()
    if rules == {"pattern"} and isinstance(names["pattern"], str):
        return names["pattern"]
    if rules == {"format"} and names["format"] in _NAMES:
        return f"^{_NAMES[names['format']]}$"
    lengths = [names.get("minLength", 0), names.get("maxLength", "")] if rules else []
    if rules <= {"minLength", "maxLength"} and all(isinstance(one, int) or one == "" for one in lengths):
        return f"^(?s:.{{{lengths[0]},{lengths[1]}}})$"
    return None


def _without_format(part: dict[str, Any]) -> None:
    kind, form = part.get("type"), part.get("format")
    if not isinstance(form, str):
        return
    if form == "email" and kind in (None, "string", ["string", "null"], ["null", "string"]):
        del part["format"]
        for rule in _EMAIL:
            _also(part, rule)
        return
    if form in _PATTERNS and kind in (None, "string", ["string", "null"], ["null", "string"]):
        del part["format"]
        _also(part, {"pattern": f"^{_PATTERNS[form]}$"})
    elif isinstance(kind, str) and form in _REMARKS.get(kind, ()):
        del part["format"]
    elif kind == "integer" and form in _BOUNDS:
        del part["format"]
        bounds = {"minimum": -_BOUNDS[form], "maximum": _BOUNDS[form] - 1}
        _also(part, {"type": "integer", **bounds})


def _also(part: dict[str, Any], more: dict[str, Any]) -> None:
    before = part.get("allOf", [])
    part["allOf"] = [*(before if isinstance(before, list) else [before]), more]


def _with_null(part: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [part, {"type": "null"}]}
