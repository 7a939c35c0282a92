"""Limits on the size and depth of grammars, checked on their text before the grammar library parses it.

The library follows references recursively: a long chain of rules overflows its stack, which ends the process. 1 MiB of
stack has room for some 250 levels. The limits are far above what people write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

from tinyslm.core.errors import TinyslmError

MOST_CHOICES = 10_000
MOST_RULES = 2_000  # rules and terminals of a Lark grammar
MOST_LEVELS = 200  # of rules that refer to each other
MOST_SCHEMA_LEVELS = 500  # of lists and objects of a JSON schema, followed through $ref: two or three to each schema

Key = TypeVar("Key", bound=Hashable)

_TOKEN = re.compile(
    r"""
      (?P<passed> "(?:[^"\\\n]|\\.)*"? | //[^\n]* | /(?:[^/\\\n]|\\.)+/? )  # closed or not: each is read once
    | (?P<json> %json\s*(?=[{]) )
    | ^[ \t]*[!?]*(?P<defined> [A-Za-z_][\w-]* )(?:::[^\n:]*)?(?:\s*\{[^}\n]*\})?(?:\s*\[[^\]\n]*\])?(?:\.-?\d+)?\s*:
    | (?P<used> [A-Za-z_][\w-]* )
    """,
    re.VERBOSE | re.MULTILINE,
)


def check_lark(text: str) -> None:
    """Raise `TinyslmError` for a Lark grammar with too many rules, or too long a chain of rules or schemas."""
    uses: dict[str, list[str]] = {}
    rule: list[str] = []
    place = 0
    while found := _TOKEN.search(text, place):
        place = found.end()
        if found["defined"]:
            rule = uses.setdefault(found["defined"], [])
        elif found["used"]:
            rule.append(found["used"])
        elif found["json"]:
            place = _check_json(text, place)
    if len(uses) > MOST_RULES:
        raise TinyslmError(
            f"The Lark grammar has {len(uses):,} rules.",
            f"Use at most {MOST_RULES:,}: write a list of words as one rule.",
        )
    if (levels := longest_chain(uses)) > MOST_LEVELS:
        raise TinyslmError(
            f"The Lark grammar has a chain of {levels:,} rules, each of which uses the next one.",
            f"Use at most {MOST_LEVELS}: replace rules that only refer to another one by that one.",
        )


def check_schema_levels(schema: Any, what: str = "The JSON schema") -> None:
    """Raise `TinyslmError` for a JSON schema that is too deep when `$ref` is followed."""
    uses: dict[int, list[int]] = {}  # lists and objects by their id
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        inner = [one for one in _values(value) if isinstance(one, Mapping | list)]
        uses[id(value)] = [id(one) for one in inner]
        waiting += inner
        if isinstance(value, Mapping) and isinstance(value.get("$ref"), str):
            uses[id(value)].append(id(_referred(schema, value["$ref"])))
    if (levels := longest_chain(uses)) > MOST_SCHEMA_LEVELS:
        raise TinyslmError(
            f"{what} is {levels:,} levels deep when $ref is followed.",
            f"Use at most {MOST_SCHEMA_LEVELS}: replace definitions that only refer to another one by that one.",
        )


def longest_chain(uses: Mapping[Key, Sequence[Key]]) -> int:
    """Length of the longest chain of keys in which each uses the next; uses that lead back into it do not count."""
    lengths: dict[Key, int] = {}
    for first in uses:
        waiting = [] if first in lengths else [first]
        while waiting:
            key = waiting[-1]
            if key not in lengths:
                lengths[key] = 0  # begun
                waiting += [used for used in uses[key] if used in uses and used not in lengths]
                continue
            waiting.pop()
            lengths[key] = lengths[key] or 1 + max((lengths.get(used, 0) for used in uses[key]), default=0)
    return max(lengths.values(), default=0)


def _values(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _referred(schema: Any, pointer: str) -> Any:
    """The part of the schema that a reference such as `#/$defs/a` names; `None` if it is not in this schema."""
    if not pointer.startswith("#"):
        return None
    part = schema
    for name in unquote(pointer[1:]).split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list) and key.isdecimal() and int(key[:9]) < len(part):
            part = part[int(key[:9])]
        elif isinstance(part, Mapping):
            part = part.get(key)
        else:
            return None
    return part


def _check_json(text: str, place: int) -> int:
    """Check the schema that begins at `place`; returns where it ends."""
    try:
        schema, end = json.JSONDecoder().raw_decode(text, place)
    except RecursionError:
        raise TinyslmError(
            "A %json of the Lark grammar is nested too deeply.", "Name parts with $defs and $ref."
        ) from None
    except ValueError:
        return len(text)  # the parser refuses it, and says why
    check_schema_levels(schema, "A %json of the Lark grammar")
    return end
