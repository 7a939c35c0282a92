"""Parse JSON from users and clients: RFC 8259 in UTF-8, without what parsers disagree on, such as duplicate keys."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tinyslm.core.printable import one_line

_LONGEST_KEY = 60  # characters of a key in a message
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # escapes only: UTF-8 has no surrogates


class JsonError(ValueError):
    """Invalid JSON. The message follows "... is not valid JSON: "."""


def parse_json(data: bytes | str) -> Any:
    """Parse the JSON value in `data`.

    Raises `JsonError`, with the reason and the place, for anything but JSON in UTF-8, for NaN, Infinity, numbers too
    large for a float, duplicate keys in an object, unpaired surrogates, and nesting too deep to be read.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(text, object_pairs_hook=_object, parse_float=_float, parse_constant=_reject)
    except UnicodeDecodeError as error:
        raise JsonError(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except JsonError:
        raise
    except ValueError:  # Python's limit on the digits of an integer
        raise JsonError("a number has too many digits") from None
    if _SURROGATE.search(text):
        _check_characters(value)
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonError(f'the key "{one_line(twice, _LONGEST_KEY)}" occurs twice in one object')
    return value


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise JsonError(f"the number {one_line(text, _LONGEST_KEY)} is too large")
    return value


def _reject(name: str) -> None:
    raise JsonError(f"{name} is not a JSON number")


def _check_characters(value: Any) -> None:
    stack = [("", value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, str):
            _check_text(item, place)
        elif isinstance(item, dict):
            for key in item:
                _check_text(key, place)
            stack += _children(place, item.items())
        elif isinstance(item, list):
            stack += _children(place, enumerate(item))


def _children(place: str, items: Iterable[tuple[object, Any]]) -> Iterable[tuple[str, Any]]:
    return [(f"{place}.{str(key)[:_LONGEST_KEY]}".lstrip("."), item) for key, item in items]


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        where = f" at {one_line(place, 200)}" if place else ""
        surrogate = f"U+{ord(text[error.start]):04X}"
        raise JsonError(f"a string{where} has the unpaired surrogate {surrogate}") from None
