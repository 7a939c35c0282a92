"""Paired differences between models on one task, and the items on which they disagree."""

import math

import pytest

from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.differences import compare_scores, corrected
from tinyslm.evaluation.protocols import Continuation, ContinuationScore
from tinyslm.evaluation.running import Subject, run_task
from tinyslm.evaluation.tasks.scored import BITS_PER_BYTE, CHOICE, PAIRS, Choice, Pair, Text
from tinyslm.evaluation.tasks.task import Task

PAIRS_TASK = Task("pairs", PAIRS, [Pair(str(n), "ab"[n % 2], f"good {n}", f"bad {n}") for n in range(40)], "accuracy")
TEXTS = Task("texts", BITS_PER_BYTE, [Text(str(n), "", "x" * (10 + n)) for n in range(40)], "bits_per_byte")


class Scripted:
    """Scores a text by a function of it."""

    def __init__(self, score):
        self.score = score

    def score_text(self, request: Continuation) -> ContinuationScore:
        return ContinuationScore(self.score(request.text), 1, greedy=True)


def scores(task, *functions):
    return [run_task(Subject("", Scripted(function), None, Reading((), 99)), task) for function in functions]


def right_below(limit: int):
    """Prefers the good sentence of the pairs below a number."""
    return lambda text: -1.0 if text.startswith("good") == (int(text.split()[1]) < limit) else -2.0


def test_a_model_is_not_different_from_itself() -> None:
    for task, function in ((PAIRS_TASK, right_below(30)), (TEXTS, lambda text: -float(len(text)))):
        (compared,) = corrected([compare_scores(task, scores(task, function, function))])
        first, same = compared.differences
        assert first is None
        assert (same.value, same.low, same.high, same.p, same.corrected) == (0, 0, 0, 1, 1)
        assert not same.significant
        assert (compared.disagreeing, compared.disagreements, compared.groups) == (0, (), ())


def test_differences_of_means() -> None:
    found = scores(PAIRS_TASK, right_below(20), right_below(40), right_below(21))
    (compared,) = corrected([compare_scores(PAIRS_TASK, found)])
    _, far, near = compared.differences
    assert (far.value, near.value) == (0.5, pytest.approx(1 / 40))
    assert far.low < 0.5 < far.high
    assert far.corrected == 2 * far.p == pytest.approx(0.002)
    assert far.significant
    assert near.p > 0.3
    assert not near.significant


def test_differences_of_ratios_are_relative() -> None:
    found = scores(TEXTS, lambda text: -float(len(text)), lambda text: -1.1 * len(text))
    compared = compare_scores(TEXTS, found)
    assert compared.relative
    one = compared.differences[1]
    assert (one.value, one.low, one.high) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    assert one.p == 0.001
    assert found[0].value == pytest.approx(1 / math.log(2))
    assert compared.disagreements[0].answers == ("1.443 bits per byte", "1.587 bits per byte")


def test_where_they_disagree() -> None:
    found = scores(PAIRS_TASK, right_below(40), right_below(8), right_below(40))
    compared = compare_scores(PAIRS_TASK, found)
    assert compared.disagreeing == 32
    ids = [int(item.id) for item in compared.disagreements]
    assert ids == [8, 12, 16, 20, 24, 28, 32, 36], "from all over those that differ"
    first = compared.disagreements[0]
    assert (first.text, first.outcomes) == ("good 8", (1, 0, 1))
    assert first.answers == ("good 8", "bad 8", "good 8")
    assert dict(compared.groups) == {"a": (1, pytest.approx(0.2), 1), "b": (1, pytest.approx(0.2), 1)}


def test_parts_of_few_items_are_not_compared() -> None:
    task = Task("pairs", PAIRS, [Pair(str(n), f"{n < 5}", f"good {n}", f"bad {n}") for n in range(30)], "accuracy")
    compared = compare_scores(task, scores(task, right_below(30), right_below(0)))
    assert [name for name, _ in compared.groups] == ["False"]


def test_a_model_without_a_score() -> None:
    first, other = scores(PAIRS_TASK, right_below(20), right_below(30))
    compared = compare_scores(PAIRS_TASK, [first, None, other])
    assert [one is None for one in compared.differences] == [True, True, False]
    assert compared.disagreements[0].outcomes == (0, None, 1)
    assert compared.disagreements[0].answers[1] == ""
    assert compare_scores(PAIRS_TASK, [None, other]).differences == (None, None)


def test_what_a_model_prefers_of_several() -> None:
    options = tuple(Continuation("It is", f" {word}") for word in ("small", "large", "a big one"))
    choice = Choice("1", "", options, (5, 5, 9), 0)
    told = [ContinuationScore(-3.0, 1, greedy=False), ContinuationScore(-3.0, 2, greedy=False)]
    told.append(ContinuationScore(-4.5, 3, greedy=False))
    assert {metric: choice.answer(told, metric) for metric in CHOICE.metrics} == {
        "per_byte": "a big one",
        "raw": "small = large",
        "per_token": "large = a big one",
    }
