"""Read the Berkeley Function Calling Leaderboard (Patil et al., 2025), whose answers are in separate files.

Supports its single-turn questions: simple, multiple, parallel, and irrelevance, where the right answer is no call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.scored import mistake
from tinyslm.evaluation.tasks.task import Row
from tinyslm.evaluation.tasks.task_config import Rows

ANSWERS = "possible_answer"
TYPES = {
    "dict": "object", "object": "object", "string": "string", "integer": "integer", "float": "number",
    "number": "number", "boolean": "boolean", "array": "array", "list": "array", "tuple": "array",
}  # fmt: skip
MOST_ALTERNATIVES = 10_000
"""Maximum number of accepted values of one argument, after expanding objects whose fields accept several values."""


def bfcl_rows(path: Path) -> Rows:
    """Rows of the kind tool_calls, from the questions in `path` and their answers.

    The answers are in a file of the same name in the folder `possible_answer` next to it, in `possible_answer.json`
    next to it, or in the question's own "ground_truth". Raises `TinyslmError` for questions without a valid answer.
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
    """A function's name as a tool name: the OpenAI API does not allow dots."""
    return name.replace(".", "_")


def _messages(row: Row, place: str) -> Any:
    """The messages of a question, which is a text, a list of messages, or a list with one turn."""
    question = row.get("question")
    if isinstance(question, str):
        return [{"role": "user", "content": question}]
    if isinstance(question, list) and question and isinstance(question[0], list):
        if len(question) > 1:
            raise mistake(place, f"it has {len(question)} turns, but only single-turn questions are supported")
        return question[0]
    return question


def _tool(function: Any, place: str) -> dict[str, Any]:
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise mistake(place, 'its "function" is not a list of functions with names')
    about = {"name": tool_name(function["name"]), "description": str(function.get("description", ""))}
    return {"type": "function", "function": {**about, "parameters": _schema(function.get("parameters") or {}, place)}}


def _schema(given: Any, place: str) -> dict[str, Any]:
    """Convert a parameter with Python type names to JSON Schema; other keywords are dropped."""
    if not isinstance(given, Mapping):
        raise mistake(place, f"it has a parameter that is not a schema: {given!r:.60}")
    kind = given.get("type", "any")
    if not isinstance(kind, str) or (kind not in TYPES and kind != "any"):
        raise mistake(place, f"it has a parameter of the unknown type {kind!r:.60}")
    found = {name: given[name] for name in ("description", "enum", "required") if name in given}
    if kind != "any":
        found["type"] = TYPES[kind]
    if isinstance(given.get("properties"), Mapping):
        found["properties"] = {name: _schema(inner, place) for name, inner in given["properties"].items()}
    if isinstance(given.get("items"), Mapping):
        found["items"] = _schema(given["items"], place)
    return found


def _call(given: Any, place: str) -> dict[str, Any]:
    """Convert a call from the form {name: {argument: [accepted values]}}."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise mistake(place, "its answer is not a list of calls {name: {argument: [accepted values]}}")
    ((name, arguments),) = given.items()
    if not isinstance(arguments, Mapping) or not all(isinstance(values, list) for values in arguments.values()):
        raise mistake(place, f"the arguments of its answer {name!r:.60} are not lists of accepted values")
    accepted = {key: [one for value in values for one in _values(value, place)] for key, values in arguments.items()}
    return {"name": tool_name(str(name)), "arguments": accepted}


def _values(value: Any, place: str) -> Sequence[Any]:
    """Expand an accepted value: the fields of an object are lists of accepted values, with "" for an optional field."""
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
