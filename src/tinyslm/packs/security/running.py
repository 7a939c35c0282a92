"""Runs in a worker process: Sigma rules on events, by pysigma and SQLite."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LONGEST_RULE, MOST_BRACKETS = 20_000, 500
"""Characters of a rule, and opening brackets in it: reading nested ones takes long."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the "rule" on "events". Returns "fired", a truth value for each, and "logsource"; or "why" it is no rule."""
    try:
        rule, query = _parsed(request["rule"])
        fired = _run(query, sorted(_fields(rule)), request["events"])
    except (ValueError, sqlite3.Error, re.error, RecursionError) as error:
        return {"why": " ".join(str(error).split())[:200] or type(error).__name__}
    source = rule.logsource
    stated = {"category": source.category, "product": source.product, "service": source.service}
    return {"fired": fired, "logsource": {key: value for key, value in stated.items() if value}}


def _parsed(text: str) -> tuple[Any, str]:
    """A rule, and its SQL. Raises `ValueError` for text that is no Sigma rule."""
    import yaml
    from sigma.backends.sqlite.sqlite import sqliteBackend
    from sigma.collection import SigmaCollection
    from sigma.exceptions import SigmaError

    if len(text) > LONGEST_RULE:
        raise ValueError(f"it has more than {LONGEST_RULE:,} characters")
    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise ValueError(f"it has more than {MOST_BRACKETS} brackets")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has YAML aliases")
        read = yaml.safe_load(text)
        if not isinstance(read, dict) or not {"logsource", "detection"} <= read.keys():
            raise ValueError("it has no logsource and detection")
        if "title" not in read:
            text = f"title: Rule\n{text}"
        rules = SigmaCollection.from_yaml(text)
        (query,) = sqliteBackend(fulltext_field="fulltext").convert(rules)  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None
    except SigmaError as error:
        raise ValueError(f"no Sigma rule: {error}") from None
    except (AttributeError, TypeError, KeyError) as error:  # what pysigma raises for some wrong types
        raise ValueError(f"no Sigma rule: {error}") from None
    return rules.rules[0], str(query)


def _fields(rule: Any) -> set[str]:
    """The fields that a rule reads."""

    def walk(detection: Any) -> Iterator[str]:
        for item in detection.detection_items:
            if hasattr(item, "detection_items"):
                yield from walk(item)
                continue
            if item.field:
                yield item.field
            yield from (value.field for value in item.value if hasattr(value, "field"))

    return {field for found in rule.detection.detections.values() for field in walk(found)}


def _run(query: str, fields: Sequence[str], events: Sequence[Mapping[str, str]]) -> list[bool]:
    """Which events the query selects, in a table in memory. Texts are compared ignoring case, as Sigma does."""
    names = {field.casefold(): field for field in (*fields, *(key for event in events for key in event), "fulltext")}
    kinds = {"sc-status": "NUMERIC"}
    database = sqlite3.connect(":memory:")
    database.create_function(
        "REGEXP", 2, lambda pattern, text: text is not None and bool(re.search(pattern, str(text)))
    )
    made = ", ".join(f"{_quoted(name)} {kinds.get(name, 'TEXT')} COLLATE NOCASE" for name in names.values())
    database.execute(f"CREATE TABLE logs (event_number INTEGER, {made})")
    for number, event in enumerate(events):
        held = {key.casefold(): value for key, value in event.items()}
        values = [number, *(held.get(name) for name in names)]
        database.execute(f"INSERT INTO logs VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
    selected = {row[0] for row in database.execute(query.replace("SELECT *", "SELECT event_number", 1))}
    database.close()
    return [number in selected for number in range(len(events))]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
