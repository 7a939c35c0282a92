"""Word problems, worked out with calls of the calculator, which are executed when a row is made."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import Example, Grade, last_number
from tinyslm.inference.tools.calculator import calculate, calculator
from tinyslm.inference.tools.tool import ToolError
from tinyslm.packs.logic.word_problems import NAMES, PROBLEMS, THINGS, Problem
from tinyslm.packs.pack import Row, Skill, Split

LARGEST = 10_000
NEAR = 1e-6
"""Relative difference up to which two results are equal."""


@dataclass(frozen=True)
class Step:
    """What the assistant says before a call, and the expression that it gives to the calculator."""

    said: str
    expression: str


def worked_out(question: str, steps: Sequence[Step], end: str) -> tuple[list[dict[str, Any]], list[str]]:
    """A conversation in which each step is a call of the calculator, and the results.

    end: the last answer, in which {answer} stands for the last result. Raises `ToolError` for an expression without a
    value.
    """
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    results: list[str] = []
    for number, step in enumerate(steps, 1):
        function = {"name": calculator.name, "arguments": {"expression": step.expression}}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        results.append(str(calculator(step.expression)))
        messages.append({"role": "assistant", "content": step.said, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": call["id"], "name": calculator.name, "content": results[-1]})
    messages.append({"role": "assistant", "content": end.replace("{answer}", results[-1])})
    return messages, results


def make(random: Random, split: Split) -> Row:
    """A word problem whose results are all whole and positive."""
    while True:
        problem = random.choice(PROBLEMS[split])
        if (row := _filled(problem, random, split)) is not None:
            return row


def _filled(problem: Problem, random: Random, split: Split) -> Row | None:
    """The problem with numbers drawn for it; `None` if a result is not a whole positive number."""
    name, other = random.sample(NAMES[split], 2)
    words = {"name": name, "other": other, "things": random.choice(THINGS[split])}
    numbers = {key: str(random.randint(*bounds)) for key, bounds in problem.numbers.items()}
    steps: list[Step] = []
    whole: dict[str, str] = {}
    results: dict[str, str] = {}
    for index, (said, expression) in enumerate(problem.steps):
        steps.append(Step(said.format(**words), expression.format(**numbers, **results)))
        whole[f"r{index}"] = f"({expression.format(**numbers, **whole)})"
        results[f"r{index}"] = calculate(steps[-1].expression)
        if not results[f"r{index}"].isdigit() or not 0 < int(results[f"r{index}"]) <= LARGEST:
            return None
    question = problem.text.format(**words, **numbers)
    messages, found = worked_out(question, steps, "The answer is {answer}.")
    return {"messages": messages, "answer": found[-1], "expression": whole[f"r{len(steps) - 1}"]}


_MARK = re.compile(r"<<([^<>=]+)=([^<>]*)>>")
_FINAL = re.compile(r"\n?####\s*(\S+)\s*$")


def convert(row: Mapping[str, Any]) -> Row | None:
    """A row with a "question" and an "answer" of worked steps, such as `<<48/2=24>>24`, and `#### 24` at the end.

    `None` for a row without such steps, and for one whose steps do not have the results that it states.
    """
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str) or not (final := _FINAL.search(answer)):
        return None
    wanted = last_number(final[1])
    try:
        steps, rest = _steps_of(answer[: final.start()])
        if wanted is None or not steps:
            return None
        end = f"{rest}\nThe answer is {wanted:.15g}.".strip()
        messages, results = worked_out(question.strip(), steps, end.replace("{", "(").replace("}", ")"))
    except ToolError:
        return None
    if not _near(float(results[-1]), wanted):
        return None
    return {"messages": messages, "answer": f"{wanted:.15g}", "expression": f"{wanted:.15g}"}


def _steps_of(text: str) -> tuple[list[Step], str]:
    """The annotated steps of a text, and what follows the last one. Raises `ToolError` where a result is wrong."""
    steps, begin = [], 0
    for mark in _MARK.finditer(text):
        stated = last_number(mark[2])
        if stated is None or not _near(float(calculate(mark[1])), stated):
            raise ToolError(f"{mark[1]} is not {mark[2]}.")
        steps.append(Step(text[begin : mark.start()].strip().rstrip("=$ ").strip(), mark[1].strip()))
        begin = mark.end()
    return steps, text[begin:].strip()


def grade(example: Example, answer: str) -> Grade:
    """The last number of the answer is the value of the example's "expression", which is computed here."""
    try:
        wanted = float(calculate(str(example["expression"])))
    except (KeyError, ToolError) as error:
        raise TinyslmError(f'An example\'s "expression" has no value: {error}', "Correct the example.") from None
    found = last_number(answer)
    return Grade(0.0, why="no number") if found is None else Grade(float(_near(found, wanted)), why=f"{found:g}")


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=1e-9)


def calls_of(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The expression and the result of each call in a conversation."""
    results = (one["content"] for one in messages if one["role"] == "tool")
    calls = (call for one in messages for call in one.get("tool_calls", ()))
    yield from zip((call["function"]["arguments"]["expression"] for call in calls), results, strict=True)


ARITHMETIC = Skill(
    "arithmetic",
    "word problems of two to four steps, with a calculator that is executed",
    make,
    grade,
    convert=convert,
    tools=(calculator,),
    max_tokens=160,
)
