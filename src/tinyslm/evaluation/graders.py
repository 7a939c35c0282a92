"""Graders score an answer to an example. Evaluation, rewards, filters and packs share them.

A grader is a function `grade(example, answer) -> Grade`. Untrusted code, whether a user's grader or an answer that is
executed, runs in a worker process (`core/worker.py`) with limits on time, memory and output.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.plugins import load_plugins
from tinyslm.core.registry import Registry
from tinyslm.core.strict_json import JsonError, parse_json
from tinyslm.core.worker import Limits, Worker, WorkerError

Example = Mapping[str, Any]
"""A row of a data file, by field name."""


@dataclass(frozen=True)
class Grade:
    """score: from 0 (wrong) to 1 (right). parts: further named metrics. why: the reason in words, or ""."""

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    why: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.score, int | float) and 0 <= self.score <= 1):
            raise TinyslmError(f"A grader returned the score {self.score!r}.", "Return a number from 0 to 1.")


Grader = Callable[[Example, str], Grade]

GRADERS: Registry[Grader] = Registry("grader")
"""Graders by name. Each accepts any text as an answer, raises `TinyslmError` only for a faulty example, and reads the
reference answer from the example's field "answer", unless it says otherwise."""

FAILED = "grader_failed"
"""The part of a grade which says that the grader failed, and not the answer."""

CODE_LIMITS = Limits(cpu_seconds=5, memory=1 << 30, wait_seconds=20, reply=1 << 20)


def find_grader(name: str, folder: Path | None = None) -> Grader:
    """Find a grader by its name, or as `FILE.py:FUNCTION`, where the file is relative to `folder`.

    Raises `TinyslmError` for unknown names and for files that do not exist, cannot be loaded or lack the function.
    """
    file, colon, function = name.rpartition(":")
    if not colon:
        if name.endswith(".py"):
            raise TinyslmError(f"{name} names no function.", f"Write the file and its function: {name}:grade")
        if name not in GRADERS:
            load_plugins()
        return GRADERS[name]
    path = (folder or Path()) / file
    if not path.is_file():
        raise TinyslmError(f"{path} does not exist.", f"{did_you_mean(name, GRADERS)} Or FILE.py:FUNCTION.")
    found = FileGrader(path.resolve(), function)
    found.load()
    return found


def absolute_grader(name: str) -> str:
    """The same grader by a name that does not depend on the current folder."""
    file, colon, function = name.rpartition(":")
    return f"{Path(file).resolve()}:{function}" if colon else name


@GRADERS.register("exact")
def exact(example: Example, answer: str) -> Grade:
    """The answer equals the reference, or one of several references, ignoring surrounding white space."""
    return _right(answer.strip() in [text.strip() for text in references(example)])


@GRADERS.register("normalized")
def normalized(example: Example, answer: str) -> Grade:
    """Like `exact`, but ignores case, punctuation at the ends and the amount of white space."""
    return _right(_plain(answer) in [_plain(text) for text in references(example)])


@GRADERS.register("contains")
def contains(example: Example, answer: str) -> Grade:
    """The answer contains the reference as whole words, ignoring case."""
    found = (rf"(?<!\w){re.escape(_plain(text))}(?!\w)" for text in references(example))
    return _right(any(re.search(pattern, _plain(answer)) for pattern in found))


@GRADERS.register("regex")
def regex(example: Example, answer: str) -> Grade:
    """The example's "pattern" matches somewhere in the answer. It is matched in the worker process."""
    reply = _ask({"do": "regex", "pattern": str(_need(example, "pattern")), "text": answer})
    return _replied(reply)


@GRADERS.register("numeric")
def numeric(example: Example, answer: str) -> Grade:
    """The last number in the answer (or the one after "####" or "answer is") equals the reference's.

    "tolerance" of the example: the largest absolute difference, by default a millionth of the number.
    """
    wanted = [last_number(text) for text in references(example)]
    if None in wanted:
        raise TinyslmError(
            f"An example's answer contains no number: {example['answer']!r:.100}", "Correct the example."
        )
    found = last_number(answer)
    if found is None:
        return Grade(0.0, why="no number")
    tolerance = example.get("tolerance")
    near = (
        abs(found - one) <= (float(tolerance) if tolerance is not None else max(1e-6 * abs(one), 1e-9))
        for one in wanted
        if one is not None
    )
    return _right(any(near), f"{found:g}")


@GRADERS.register("json")
def json_fields(example: Example, answer: str) -> Grade:
    """The answer is a JSON object that fits the example's "schema" and equals its "answer", where the example has them.

    The score is the F1 of fields and values, and 0 for invalid JSON.
    """
    try:
        value = parse_json(first_json(answer).encode("utf-8", "replace"))
    except JsonError as error:
        return Grade(0.0, {"valid": 0.0}, f"not JSON: {error}")
    if (schema := example.get("schema")) is not None and (why := _schema_error(schema, value)):
        return Grade(0.0, {"valid": 0.0}, why)
    if "answer" not in example:
        return Grade(1.0, {"valid": 1.0})
    wanted = example["answer"]
    if isinstance(wanted, str):
        try:
            wanted = parse_json(wanted.encode("utf-8", "replace"))
        except JsonError as error:
            raise TinyslmError(f"An example's answer is not JSON: {error}", "Correct the example.") from None
    score = field_f1(wanted, value)
    return Grade(score, {"valid": 1.0, "equal": float(score == 1)})


@GRADERS.register("python")
def python(example: Example, answer: str) -> Grade:
    """The answer's Python code passes the example's "test": Python statements that run after it.

    "entry" of the example: code that precedes the answer, such as the header of a function that the model completes.
    """
    code = str(example.get("entry", "")) + python_code(answer)
    return _replied(_ask({"do": "python", "code": code, "test": str(_need(example, "test"))}))


class FileGrader:
    """A grader that calls a function in a user's file, in the worker process.

    The function may return a number, a dictionary with "score", "parts" and "why", or a `Grade`.
    """

    def __init__(self, path: Path, function: str) -> None:
        self.path, self.function = path, function

    def __call__(self, example: Example, answer: str) -> Grade:
        """See `Grader`. If the function fails or takes too long, the score is 0 and `why` holds the reason."""
        request = self._request() | {"do": "file", "example": dict(example), "answer": answer}
        return _replied(_ask(request, parts={FAILED: 1.0}))

    def load(self) -> None:
        """Raises `TinyslmError` if the file cannot be loaded or has no such function."""
        reply = _ask(self._request() | {"do": "load"})
        if why := reply.get("mistake") or reply.get("why"):
            start = f"{self.path} cannot be used as a grader: "
            raise TinyslmError(start + str(why).removeprefix(start).rstrip("."), "Correct the file, and try again.")

    def _request(self) -> dict[str, Any]:
        try:
            changed = self.path.stat().st_mtime_ns  # reload the file after an edit
        except OSError as error:
            raise TinyslmError(f"Could not read {self.path}: {error.strerror}.", "Restore the grader's file.") from None
        return {"path": str(self.path), "function": self.function, "changed": changed}


def references(example: Example) -> list[str]:
    """The reference answers: the example's "answer", a single value or a list."""
    wanted = _need(example, "answer")
    return [str(one) for one in wanted] if isinstance(wanted, list) else [str(wanted)]


_NUMBER = re.compile(
    r"""(?:(?<![\w.)])[-−])?             # a minus, and not the sign between two numbers
    [$€£]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
    (?:[eE][-+]?\d+)?""",
    re.VERBOSE,
)
_MARKED = re.compile(r"####|answer is|answer:", re.IGNORECASE)


def last_number(text: str) -> float | None:
    """The final number of a text: the first after its last "####", "answer is" or "answer:", otherwise the last one."""
    marks = list(_MARKED.finditer(text))
    found = _NUMBER.search(text, marks[-1].end()) if marks else None
    if found is None:
        numbers = list(_NUMBER.finditer(text))
        found = numbers[-1] if numbers else None
    if found is None:
        return None
    value = float(re.sub(r"[,$€£]", "", found[0]).replace("−", "-"))
    return value if math.isfinite(value) else None


def first_json(answer: str) -> str:
    """The first JSON object in an answer, also inside a code fence or other text; the whole answer without one."""
    for brace in re.finditer("{", answer):
        try:
            _, end = json.JSONDecoder().raw_decode(answer, brace.start())
        except (ValueError, RecursionError):
            continue
        return answer[brace.start() : end]
    return answer.strip()


def python_code(answer: str) -> str:
    """The first fenced code block of an answer, or the whole answer."""
    fenced = re.search(r"```(?:python|py)?\s*\n(.*?)```", answer, re.DOTALL)
    return fenced[1] if fenced else answer


def field_f1(wanted: Any, given: Any) -> float:
    """F1 over the (path, value) pairs of two JSON values; compares numbers by value and texts ignoring case."""
    ours, theirs = list(_leaves(wanted)), list(_leaves(given))
    left, right = list(theirs), 0
    for leaf in ours:
        if leaf in left:
            left.remove(leaf)
            right += 1
    return 2 * right / (len(ours) + len(theirs)) if ours or theirs else 1.0


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{path}.{key}")] or [(path, ())]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner, f"{path}[]")] or [(path, [])]
    if isinstance(value, bool) or value is None:
        return [(path, (value,))]  # 1 is not true
    if isinstance(value, int | float):
        return [(path, float(value))]
    return [(path, " ".join(value.casefold().split()))]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'`")


def _right(right: bool, why: str = "") -> Grade:
    return Grade(float(right), why=why)


def _need(example: Example, name: str) -> Any:
    if name not in example:
        raise TinyslmError(
            f'An example has no field "{name}".', "The grader needs it: add the field, or choose another grader."
        )
    return example[name]


def _schema_error(schema: Any, value: Any) -> str:
    import jsonschema

    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError as error:
        return str(error.message)[:200]
    except jsonschema.SchemaError as error:
        raise TinyslmError(f"An example's schema is not valid: {error.message[:200]}", "Correct the schema.") from None
    return ""


_worker = Worker("tinyslm.evaluation.grading:answer", CODE_LIMITS)


def _ask(request: Mapping[str, Any], parts: Mapping[str, float] | None = None) -> Mapping[str, Any]:
    """The worker's reply. If the worker dies, the item fails with the score 0 and these parts."""
    try:
        return _worker.ask(request)
    except WorkerError as error:
        words = {"time": "it took too long", "memory": "it took too much memory", "reply": "its result is too long"}
        return {"score": 0.0, "parts": parts, "why": words.get(error.kind, "it ended the process")}


def _replied(reply: Mapping[str, Any]) -> Grade:
    if "mistake" in reply:  # of the grader itself, not of the answer
        raise TinyslmError(str(reply["mistake"]), "Correct the grader, and try again.")
    parts = reply.get("parts") or {}
    if not isinstance(parts, Mapping) or not all(isinstance(value, int | float) for value in parts.values()):
        raise TinyslmError(f"A grader gave the parts {parts!r:.100}.", "Return numbers by their names.")
    return Grade(float(reply["score"]), dict(parts), str(reply.get("why") or ""))
