"""Try a grader on answers that cannot be right, and on the reference answers, before a model learns from its scores."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.graders import FAILED, Example, Grade, Grader

REFERENCE = "reference"
LONG = 4_000
"""Words of the longest answers tried."""
SLOW = 0.2
"""Seconds of a grading above which sampling waits noticeably for the grader."""

Probe = Callable[[Example, Sequence[Example]], str | None]
"""An answer to an example, given all examples; `None` if the example lacks what it is made from."""


@dataclass(frozen=True)
class Tried:
    """One kind of answer: its mean score over `examples`, how many gradings failed and why, and seconds per grading."""

    kind: str
    score: float
    examples: int
    failed: int
    why: str
    seconds: float


@dataclass(frozen=True)
class Problem:
    """Something wrong with a grader; errors make it useless as a reward."""

    severity: Literal["error", "warning"]
    text: str


@dataclass(frozen=True)
class GraderReport:
    """Every kind of answer that was tried, and the problems found."""

    tried: Sequence[Tried]
    problems: Sequence[Problem]


def check_grader(
    grader: Grader, examples: Sequence[Example], progress: Callable[[str, int, int], None] = lambda *_: None
) -> GraderReport:
    """Grade each kind of answer in `PROBES` to each example.

    Reference answers are in the field "answer". A grader that hangs is not asked for a kind of answer again.
    Raises `TinyslmError` if there are no examples.
    """
    if not examples:
        raise TinyslmError("There are no examples to try the grader on.", "Give a file with at least one row.")
    tried, varying, hung = [], "", 0
    for number, (kind, probe) in enumerate(PROBES.items()):
        progress("trying the grader", number, len(PROBES))
        asked = [(example, answer) for example in examples if (answer := probe(example, examples)) is not None]
        if not asked:
            continue
        found, seconds = _grades(grader, asked)
        tried.append(_summary(kind, found, seconds))
        if FAILED in found[-1].parts and seconds > 1:
            hung += 1
            if hung == MOST_HUNG:
                break
            continue
        again, _ = _grades(grader, asked[:3])
        if [one.score for one in again] != [one.score for one in found[: len(again)]]:
            varying = varying or kind
    return GraderReport(tried, _problems(tried, varying))


MOST_HUNG = 2
"""After so many kinds of answers on which the grader hangs, no others are tried."""


def _grades(grader: Grader, asked: Sequence[tuple[Example, str]]) -> tuple[list[Grade], float]:
    """Grades, and the seconds that each took on average; ends early once a grading fails slowly."""
    found: list[Grade] = []
    begun = time.monotonic()
    for example, answer in asked:
        before = time.monotonic()
        try:
            found.append(grader(example, answer))
        except TinyslmError as error:
            found.append(Grade(0.0, {FAILED: 1.0}, error.problem))
        if FAILED in found[-1].parts and time.monotonic() - before > 1:
            break
    return found, (time.monotonic() - begun) / len(found)


def _summary(kind: str, found: Sequence[Grade], seconds: float) -> Tried:
    failures = [one.why for one in found if FAILED in one.parts]
    why = Counter(failures).most_common(1)[0][0] if failures else ""
    return Tried(kind, fmean(one.score for one in found), len(found), len(failures), why, seconds)


def _problems(tried: Sequence[Tried], varying: str) -> list[Problem]:
    kinds: dict[str, list[str]] = {}
    for one in tried:
        if one.failed:
            kinds.setdefault(one.why, []).append(one.kind)
    errors = [f"It fails on answers of the kinds {', '.join(names)}: {why}" for why, names in kinds.items()]
    warnings: list[str] = []
    scores = {one.kind: one.score for one in tried if not one.failed}
    reference = scores.pop(REFERENCE, None)
    if reference is not None and reference < 0.5:
        errors.append(f"Reference answers score only {reference:.2f}: the grader does not recognise right answers.")
    if len(scores) > 2 and len({round(score, 6) for score in (*scores.values(), reference or 0.0)}) == 1:
        errors.append("All answers score the same: there is nothing to learn from.")
    else:
        for kind, score in scores.items():
            (errors if kind not in RIGHT else warnings).extend(_too_high(kind, score, reference))
    if varying:
        warnings.append(f"The same answer ({varying}) does not always get the same score.")
    slow = max(tried, key=lambda one: one.seconds)
    if slow.seconds > SLOW and not slow.failed:
        warnings.append(f"Grading an answer takes {slow.seconds:.1f} s ({slow.kind}), and training waits for it.")
    return [Problem("error", text) for text in errors] + [Problem("warning", text) for text in warnings]


def _too_high(kind: str, score: float, reference: float | None) -> list[str]:
    """What is wrong if this kind of answer scores as high as reference answers, or nearly 1 if there are none."""
    if score < (0.9 if reference is None else max(0.5, 0.9 * reference)):
        return []
    compared = "" if reference is None else f", reference answers {reference:.2f}"
    return [f"{WORDS[kind]} score {score:.2f}{compared}: a model can learn to write these instead."]


def _reference(example: Example) -> str | None:
    answer = example.get("answer")
    first = answer[0] if isinstance(answer, list) and answer else answer
    return None if first is None else str(first)


def _of_reference(change: Callable[[str], str]) -> Probe:
    def probe(example: Example, _: Sequence[Example]) -> str | None:
        reference = _reference(example)
        return None if reference is None else change(reference)

    return probe


def _constant(example: Example, examples: Sequence[Example]) -> str | None:
    """The commonest reference answer of all, or "yes"; not for an example whose own reference it is."""
    known = [one for one in map(_reference, examples) if one is not None]
    common = Counter(known).most_common(1)[0][0] if known else "yes"
    return None if _reference(example) == common else common


def _question(example: Example, _: Sequence[Example]) -> str | None:
    asked = next((example[name] for name in ("prompt", "question", "instruction", "query") if name in example), None)
    return asked if isinstance(asked, str) else None


PROBES: Mapping[str, Probe] = {
    REFERENCE: _of_reference(lambda text: text),
    "empty": lambda *_: "",
    "space": lambda *_: " \n",
    "constant": _constant,
    "question": _question,
    "repeated word": lambda *_: "the " * LONG,
    "repeated reference": _of_reference(lambda text: f"{text}\n" * 50),
    "all references": lambda _, examples: "\n".join(one for one in map(_reference, examples) if one) or None,
    "long": lambda *_: " ".join(f"word{number}" for number in range(LONG)),
    "reference in long": _of_reference(lambda text: f"{'word ' * LONG}{text}"),
}
"""Kinds of answers, by name."""
RIGHT = {"repeated reference", "reference in long"}
"""Kinds that contain the right answer, with much more."""
WORDS = {
    "empty": "Empty answers",
    "space": "Answers of white space",
    "constant": "Answers that are always the same",
    "question": "Answers that repeat the question",
    "repeated word": "Answers that repeat a word",
    "repeated reference": "Answers that repeat the right one 50 times",
    "all references": "Answers that list everything",
    "long": "Long answers without content",
    "reference in long": f"Right answers after {LONG} other words",
}
