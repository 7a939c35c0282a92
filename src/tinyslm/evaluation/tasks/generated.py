"""Kinds of task that score what the model writes: graded answers and tool calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import FileGrader, Grader, find_grader
from tinyslm.evaluation.tasks.scored import fill, mistake, row_id, text_field, without_labels
from tinyslm.evaluation.tasks.task import Kind, Outcome, Row
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.request import Completion, Piece
from tinyslm.inference.tool_call_collector import ToolCallCollector
from tinyslm.inference.tools.tool import Tool


@dataclass(frozen=True)
class Generation:
    """A prompt whose answer a grader scores. Metrics: "score", and the parts of the grade.

    runs: tools that the model may call on the way; its calls are executed. constraint: what an answer may look
    like, for constrained decoding.
    """

    id: str
    group: str
    asked: str | Sequence[Mapping[str, Any]]
    row: Row
    grader: Grader
    chance: float = 0.0
    runs: Sequence[Tool] = ()
    constraint: OutputConstraint | None = None

    @property
    def text(self) -> str:
        """See `Example`."""
        return plain_prompt(self.asked)

    def prompt(self) -> str | Sequence[Mapping[str, Any]]:
        """See `GeneratedExample`."""
        return self.asked

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """See `GeneratedExample`."""
        return [tool.schema() for tool in self.runs]

    def outcome(self, answer: Completion) -> Outcome:
        """See `GeneratedExample`."""
        grade = self.grader(self.row, answer.text)
        return {"score": float(grade.score), **grade.parts}


@dataclass(frozen=True)
class ToolCalls:
    """A request with tools, and the accepted calls.

    accepted: for each expected call, its name and the accepted values of each argument; empty if the model should call
    no tool. plain: normalizes a value before the comparison. Metrics: "right_name": the model calls exactly the
    expected tools, in any order; "right_call": with accepted arguments too; "called": it calls any tool.
    """

    id: str
    group: str
    asked: Sequence[Mapping[str, Any]]
    offered: Sequence[Mapping[str, Any]]
    accepted: Sequence[tuple[str, Mapping[str, Sequence[Any]]]]
    plain: Callable[[Any], Any]
    chance: float = 0.0

    @property
    def text(self) -> str:
        """See `Example`."""
        return plain_prompt(self.asked)

    def prompt(self) -> Sequence[Mapping[str, Any]]:
        """See `GeneratedExample`."""
        return self.asked

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """See `GeneratedExample`."""
        return self.offered

    def outcome(self, answer: Completion) -> Outcome:
        """See `GeneratedExample`."""
        collector = ToolCallCollector()
        collector.take(Piece(0, answer.text, 1, answer.finish))
        calls = [(call.name, json.loads(call.arguments)) for call in collector.calls if call.complete]
        names = sorted(name for name, _ in calls) == sorted(name for name, _ in self.accepted)
        return {
            "right_call": float(names and self._accepts(calls)),
            "right_name": float(names),
            "called": float(bool(calls)),
        }

    def _accepts(self, calls: Sequence[tuple[str, Any]]) -> bool:
        """Whether the calls match the expected calls one to one."""
        left = list(self.accepted)
        for name, given in calls:
            match = next((one for one in left if one[0] == name and self._fits(given, one[1])), None)
            if match is None:
                return False
            left.remove(match)
        return not left

    def _fits(self, given: Any, wanted: Mapping[str, Sequence[Any]]) -> bool:
        """Whether all arguments have accepted values."""
        if not isinstance(given, dict) or not given.keys() <= wanted.keys():
            return False
        for name, values in wanted.items():
            if name not in given:
                if "" not in values and None not in values:
                    return False
            elif self.plain(given[name]) not in [self.plain(value) for value in values]:
                return False
        return True


PROBE = "{}"
"""An answer that every grader compares with the reference: it is valid as a JSON object, as Python code and as text."""


def read_generation(row: Row, place: str, options: Mapping[str, Any]) -> Generation:
    """Read a row with a "prompt" or "messages", and the fields that the grader needs, usually an "answer".

    The grader is tried on a probe answer first, so that faulty rows are found before the model runs.
    Options: "grader" (by default "exact"); "prompt", a template with {fields}; "answer", the name of the field; "chat",
    whether the prompt is a user message; "tools", a list of `Tool`; "constraint", a function from the row to what an
    answer may look like. A row may state the "chance" of guessing.

    Raises `TinyslmError` for rows that cannot be used.
    """
    grader = find_grader(str(options.get("grader", "exact")), Path(options.get("folder", ".")))
    graded = {**row, "answer": row[options["answer"]]} if options.get("answer") in row else row
    if "messages" in row and "prompt" not in options:
        asked: Any = check_messages(row["messages"], place)
    else:
        asked = fill(str(options.get("prompt", "{prompt}")), row, place)
        if options.get("chat") or options.get("tools"):
            asked = [{"role": "user", "content": asked}]
    if not isinstance(grader, FileGrader):
        try:
            grader(graded, PROBE)
        except TinyslmError as error:
            raise mistake(place, error.problem.removesuffix(".")) from None
    group, chance, runs = str(row.get("group", "")), float(row.get("chance", 0)), tuple(options.get("tools", ()))
    constraint = options["constraint"](row) if options.get("constraint") else None
    return Generation(row_id(row, place), group, asked, graded, grader, chance, runs, constraint)


def read_tool_calls(row: Row, place: str, options: Mapping[str, Any]) -> ToolCalls:
    """Read a row with a "prompt" or "messages", "tools" in OpenAI's format, and "calls".

    A call is {"name": ..., "arguments": {name: [accepted values]}}; an optional argument accepts "" or null.
    Option: "compare", a name in `COMPARISONS`. Raises `TinyslmError` for rows that cannot be used.
    """
    asked = row["messages"] if "messages" in row else [{"role": "user", "content": text_field(row, "prompt", place)}]
    tools, calls = row.get("tools"), row.get("calls")
    if not isinstance(tools, list) or not isinstance(calls, list):
        raise mistake(place, 'its "tools" or "calls" are missing or not a list')
    try:
        accepted = [(str(call["name"]), dict(call["arguments"])) for call in calls]
    except (KeyError, TypeError, ValueError):
        raise mistake(place, 'its calls are not {"name": ..., "arguments": {...}}') from None
    if not all(isinstance(values, list) for _, arguments in accepted for values in arguments.values()):
        raise mistake(place, "the arguments of its calls are not lists of accepted values")
    plain = COMPARISONS[options.get("compare", "plain")]
    messages = check_messages(asked, place)
    return ToolCalls(row_id(row, place), str(row.get("group", "")), messages, tools, accepted, plain)


def check_messages(messages: Any, place: str) -> Sequence[Mapping[str, Any]]:
    """Check the messages of a conversation. Raises `TinyslmError` if they are not valid."""
    fine = isinstance(messages, list) and messages and all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        for one in messages
    )  # fmt: skip
    if not fine:
        raise mistake(place, 'its messages are not a list of {"role": ..., "content": ...}')
    found: Sequence[Mapping[str, Any]] = messages
    return found


def plain_prompt(asked: str | Sequence[Mapping[str, Any]]) -> str:
    """A prompt as plain text, without the task's labels."""
    return without_labels(asked) if isinstance(asked, str) else "\n".join(str(one["content"]) for one in asked)


def _plain(value: Any, text: Callable[[str], str] = lambda text: " ".join(text.casefold().split())) -> Any:
    """Normalize a value for comparison: in texts, ignore case and the amount of white space."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {name: _plain(inner, text) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, text) for inner in value]
    return ("boolean", value) if isinstance(value, bool) else value


def _loose(value: Any) -> Any:
    """Normalize as BFCL does: ignore case, spaces and some punctuation in texts."""
    return _plain(value, lambda text: re.sub(r"[ ,./_*^-]", "", text).lower().replace("'", '"'))


COMPARISONS = {"plain": _plain, "loose": _loose}

GENERATION = Kind("generation", read_generation, generates=True, metrics=("score",))
TOOL_CALLS = Kind("tool_calls", read_tool_calls, generates=True, metrics=("right_call", "right_name", "called"))
