"""JSON schemas of arguments, in the form in which a grammar can hold a model to them.

Schemas of foreign tools use keywords that a grammar cannot express. These are left out here, and are checked when a
call arrives: by pydantic for functions, by the server for tools of MCP servers. What remains allows more, never less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.json_schema import FORMATS, KEYWORDS, check_schema

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_VERBATIM = ("const", "enum", "default", "examples", "example", "required")


def writable(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The schema of the arguments of the tool `name`, without titles and what a grammar cannot express.

    Raises `TinyslmError` for a schema that is too large, or which nothing satisfies.
    """
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise TinyslmError(f"The arguments of the tool {name} are not a JSON object.", "Describe them as an object.")
    try:
        plain = {"type": "object", "properties": {}, **_plain(schema)}
    except RecursionError:
        raise TinyslmError(f"The schema of the tool {name} is nested too deeply.", "Make it simpler.") from None
    try:
        check_schema(plain)
    except TinyslmError as error:
        raise TinyslmError(f"The tool {name} cannot be used: {error.problem}", error.remedy) from None
    return plain


def _plain(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return [_plain(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "title" or keyword not in KEYWORDS:
            continue
        if keyword in _MAPS and isinstance(value, Mapping):
            kept[keyword] = {name: _plain(part) for name, part in value.items()}
        else:
            kept[keyword] = value if keyword in _VERBATIM else _plain(value)
    kinds = kept.get("type", "string")
    if kept.get("format") not in FORMATS or "string" not in (kinds if isinstance(kinds, list) else [kinds]):
        kept.pop("format", None)
    return kept
