"""Whether a document repeats items where its schema wants them to differ.

A grammar decides token by token and does not remember earlier items of an array. So `uniqueItems` is checked when the
document is complete; the grammar has enforced all other rules of the schema by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError


def wants_uniqueness(schema: Any) -> bool:
    """Whether `uniqueItems` is said anywhere in a schema."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            if part.get("uniqueItems") is True:
                return True
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
    return False


def repeats(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether a document has equal items in an array where its schema forbids that.

    `False` for text that is not valid JSON, such as a document that was cut off.
    """
    from jsonschema import Draft202012Validator

    try:
        value = json.loads(text)
    except ValueError:
        return False
    return any(one.validator == "uniqueItems" for one in _errors(Draft202012Validator(schema).iter_errors(value)))


def _errors(errors: Iterator[ValidationError]) -> Iterator[ValidationError]:
    for error in errors:
        yield error
        yield from _errors(iter(error.context or ()))
