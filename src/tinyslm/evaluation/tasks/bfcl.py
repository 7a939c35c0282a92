"""The Berkeley Function Calling Leaderboard (Patil et al., 2025), whose answers stand in files of their own.

Read are its questions of one turn: simple, multiple, parallel, and irrelevance, whose right answer is no call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tinyslm.evaluation.tasks.benchmark import Rows
from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.scored import mistake
from tinyslm.evaluation.tasks.task import Row

ANSWERS = "possible_answer"
TYPES = {
    "dict": "object", "object": "object", "string": "string", "integer": "integer", "float": "number",
    "number": "number", "boolean": "boolean", "array": "array", "list": "array", "tuple": "array",
}  # fmt: skip
MOST_ALTERNATIVES = 10_000
"""Accepted values of one argument, where an object has several accepted values for several of its fields."""


def bfcl_rows(path: Path) -> Rows:
    """Rows of the kind tool_calls, from the questions in `path` and their answers.

    The answers are in a file of the same name in the folder `possible_answer` beside it, or in `possible_answer.json`
    beside it; a question may also have its "ground_truth". Raises `TinyslmError`.
    """
    file = path.parent / ANSWERS / path.name
    if not file.is_file():
        file = path.parent / f"{ANSWERS}.json"
    answers = {str(row.get("id")): row.get("ground_truth") for _, row in rows_of(file)} if file.is_file() else {}
    for place, row in rows_of(path):
        name = str(row.get("id", ""))
        wanted = row.get("ground_truth", answers.get(name))
        if wanted is None and "irrelevance" in name:
            wanted = []
        if not isinstance(wanted, list):
            raise mistake(place, f"there is no answer to {name!r} in {ANSWERS}/{path.name}")
        functions = row.get("function")
        functions = functions if isinstance(functions, list) else [functions]
        tools = [_tool(one, place) for one in functions]
        calls = [_call(one, place) for one in wanted]
        group = name.rpartition("_")[0]
        yield place, {"id": name, "group": group, "messages": _messages(row, place), "tools": tools, "calls": calls}


def tool_name(name: str) -> str:
    """A function's name as a tool's: OpenAI's names have no dots."""
    return name.replace(".", "_")


def _messages(row: Row, place: str) -> Any:
    """The one turn of a question, which is a text, a list of messages, or a list of turns."""
    question = row.get("question")
    if isinstance(question, str):
        return [{"role": "user", "content": question}]
    if isinstance(question, list) and question and isinstance(question[0], list):
        if len(question) > 1:
            raise mistake(place, f"it has {len(question)} turns, and only questions of one turn are read")
        return question[0]
    return question


def _tool(function: Any, place: str) -> dict[str, Any]:
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise mistake(place, 'its "function" is not a list of functions with names')
    about = {"name": tool_name(function["name"]), "description": str(function.get("description", ""))}
    return {"type": "function", "function": {**about, "parameters": _schema(function.get("parameters") or {}, place)}}


def _schema(given: Any, place: str) -> dict[str, Any]:
    """A parameter's JSON schema. Types have Python's names; what else is said of them is for people."""
    if not isinstance(given, Mapping):
        raise mistake(place, f"it has a parameter that is no schema: {given!r:.60}")
    kind = given.get("type", "any")
    if not isinstance(kind, str) or (kind not in TYPES and kind != "any"):
        raise mistake(place, f"it has a parameter of the type {kind!r:.60}, which is none of Python's")
    found = {name: given[name] for name in ("description", "enum", "required") if name in given}
    if kind != "any":
        found["type"] = TYPES[kind]
    if isinstance(given.get("properties"), Mapping):
        found["properties"] = {name: _schema(inner, place) for name, inner in given["properties"].items()}
    if isinstance(given.get("items"), Mapping):
        found["items"] = _schema(given["items"], place)
    return found


def _call(given: Any, place: str) -> dict[str, Any]:
    """A call, from {name: {argument: [accepted values]}}."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise mistake(place, "its answer is not a list of calls {name: {argument: [accepted values]}}")
    ((name, arguments),) = given.items()
    if not isinstance(arguments, Mapping) or not all(isinstance(values, list) for values in arguments.values()):
        raise mistake(place, f"the arguments of its answer {name!r:.60} are not lists of accepted values")
    accepted = {key: [one for value in values for one in _values(value, place)] for key, values in arguments.items()}
    return {"name": tool_name(str(name)), "arguments": accepted}


def _values(value: Any, place: str) -> Sequence[Any]:
    """What a value stands for: an object has lists of accepted values for its fields, "" where one may be left out."""
    if isinstance(value, Mapping):
        fields = [
            [(name, one) for accepted in values for one in _values(accepted, place)]
            for name, values in value.items()
            if isinstance(values, list)
        ]
        if len(fields) != len(value):
            raise mistake(place, "an object in its answer has a field that is not a list of accepted values")
    elif isinstance(value, list):
        fields = [[("", one) for one in _values(inner, place)] for inner in value]
    else:
        return [value]
    if math.prod(map(len, fields)) > MOST_ALTERNATIVES:
        raise mistake(place, f"an argument has more than {MOST_ALTERNATIVES:,} accepted values")
    if isinstance(value, list):
        return [[one for _, one in chosen] for chosen in product(*fields)]
    return [{name: one for name, one in chosen if one != ""} for chosen in product(*fields)]
