"""Exercise: a grader, added by a plugin."""

from __future__ import annotations

from typing import Any

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.evaluation.graders import GRADERS, Grade

EXAMPLE = {"answer": "apple, pear, plum"}


def _grade(answer: str, example: dict[str, Any] = EXAMPLE) -> Grade:
    return GRADERS["items"](example, answer)


def _scores(expected: dict[str, float], example: dict[str, Any] = EXAMPLE) -> str:
    for answer, score in expected.items():
        found = _grade(answer, example).score
        if abs(found - score) > 1e-6:
            return f"For {example['answer']!r}, the answer {answer!r} gets {found:.4g}, not {score:.4g}."
    return ""


def _registered(_module: Any) -> str:
    if "items" not in GRADERS:
        return 'The file adds no grader "items".'
    return _scores({"apple, pear, plum": 1.0, "figs": 0.0})


def _order(_module: Any) -> str:
    return _scores({"plum, apple, pear": 1.0, "Apple,PEAR ,  plum": 1.0, " apple, pear, plum,\n": 1.0})


def _partly(_module: Any) -> str:
    return _scores({"apple, pear": 2 / 3, "apple, pear, plum, fig": 3 / 4, "apple, fig": 1 / 4})


def _gaming(_module: Any) -> str:
    return _scores({"apple, apple, apple": 1 / 3, "apple, apple, pear, plum": 1.0})


def _any_text(_module: Any) -> str:
    return _scores({"": 0.0, " , ,, ": 0.0, "\x00": 0.0, "apple pear plum": 0.0, "," * 10_000: 0.0})


def _several(_module: Any) -> str:
    example = {"answer": ["red, green", "rouge, vert"]}
    return _scores({"rouge, vert": 1.0, "green, red": 1.0, "vert": 0.5, "red, vert": 1 / 3}, example)


def _reason(_module: Any) -> str:
    why = _grade("apple, pear").why
    if "plum" not in why:
        return f'For the answer "apple, pear", the grade\'s why is {why!r}; it should name plum, which is missing.'
    right = _grade("apple, pear, plum").why
    return f"A right answer needs no reason; yours: {right!r}." if right else ""


GRADER = Exercise(
    title="A grader",
    about="Score lists of items: order does not matter, and listing everything does not pay.",
    task=(
        "A grader gets an example and a model's answer, and gives a score from 0 to 1. Evaluations use it, and so does "
        "training by rewards, where a model finds every weakness of a grader.",
        'Write a grader "items" for answers that are lists, separated by commas. Items are compared without regard to '
        "capitals and to white space around them; their order and repetitions do not count. The score is the number of "
        "items in both lists, divided by the number of items in at least one of them.",
        "An example may have several right answers, of which the best counts: references(example) gives them. The "
        "field why of a grade names missing and superfluous items; it is empty for a right answer.",
    ),
    hints=(
        "Make a set of each list: & has what is in both, | what is in at least one.",
        "An answer without any item divides by the number of the wanted items, not by 0. Leave out empty items.",
        "max(grades, key=lambda grade: grade.score) is the best of several.",
    ),
    start="exercises/grader.py",
    checks=(
        Check('The plugin adds a grader "items".', _registered),
        Check("Order, capitals and white space do not matter.", _order),
        Check("Missing and additional items lower the score.", _partly),
        Check("Repeating an item changes nothing.", _gaming),
        Check("Every text gets a grade, including the empty one.", _any_text),
        Check("Of several right answers, the best counts.", _several),
        Check("The grade says what is wrong.", _reason),
    ),
    then=(
        'tinyslm evaluate MODEL --plugin FILE --tasks my-task.toml    # with: kind = "generation", grader = "items"',
    ),
)
