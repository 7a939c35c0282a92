"""A grader is tried on answers that cannot be right before a model learns from its scores."""

import time

import pytest

from tinyslm.evaluation.grader_check import PROBES, WORDS, check_grader
from tinyslm.evaluation.graders import FAILED, Grade, find_grader

ROWS = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(10, 16)]


def problems(grader, rows=ROWS) -> list[str]:
    return [f"{problem.severity}: {problem.text}" for problem in check_grader(grader, rows).problems]


@pytest.mark.parametrize("name", ["exact", "normalized"])
def test_a_strict_grader_has_no_problems(name: str) -> None:
    report = check_grader(find_grader(name), ROWS)
    assert not report.problems
    scores = {one.kind: one.score for one in report.tried}
    assert scores.pop("reference") == 1
    assert set(scores.values()) == {0}
    assert scores.keys() == WORDS.keys() == PROBES.keys() - {"reference"}


@pytest.mark.parametrize(
    ("grade", "words"),
    [
        (lambda _, answer: Grade(float(not answer)), "Empty answers score 1.00, reference answers 0.00"),
        (lambda _, answer: Grade(min(1.0, len(answer) / 1000)), "Long answers without content score 1.00"),
        (lambda row, answer: Grade(float(row["answer"] in answer)), "Answers that list everything score 1.00"),
        (lambda row, answer: Grade(float(row["question"] == answer)), "Answers that repeat the question score 1.00"),
        (lambda _, __: Grade(1.0), "All answers score the same"),
        (lambda row, answer: Grade(float(row["answer"] == answer.upper() + "!")), "does not recognise right answers"),
    ],
)
def test_what_a_model_would_exploit_is_an_error(grade, words: str) -> None:
    found = problems(grade)
    assert any(text.startswith("error") and words in text for text in found), found


def test_right_answers_that_are_buried_are_only_a_warning() -> None:
    found = problems(find_grader("numeric"))
    assert any("warning: Right answers after 4000 other words score 1.00" in text for text in found)
    assert not any(text.startswith("error") for text in found)


def test_a_grader_without_references() -> None:
    rows = [{"prompt": f"{n}?"} for n in range(3)]
    assert problems(lambda _, answer: Grade(0.7 if answer.count("word") else 0.1), rows) == []
    assert (
        "Answers that repeat the question" in problems(lambda row, text: Grade(float(row["prompt"] in text)), rows)[0]
    )


def test_scores_that_vary_are_a_warning() -> None:
    count = iter(range(10**6))
    found = problems(lambda *_: Grade(next(count) % 7 / 10))
    assert any("does not always get the same score" in text for text in found)


def test_a_grader_that_hangs_is_not_tried_for_long() -> None:
    asked: list[str] = []

    def hangs(_, answer: str) -> Grade:
        asked.append(answer)
        time.sleep(1.01)
        return Grade(0.0, {FAILED: 1.0}, "it took too long")

    assert problems(hangs) == ["error: It fails on answers of the kinds reference, empty: it took too long"]
    assert len(asked) == 2
