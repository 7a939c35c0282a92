"""Exercise: a task, added by a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.evaluation.tasks.loading import TASKS, load_tasks

FEWEST = 100
MOST_BY_LENGTH = 0.6


def _examples() -> Sequence[Any]:
    return load_tasks("agreement")[0].examples


def _enough(_module: Any) -> str:
    if "agreement" not in TASKS:
        return 'The file adds no task "agreement".'
    if len(found := _examples()) < FEWEST:
        return f"It has {len(found)} examples. With fewer than {FEWEST}, the interval of a score is wider than 0.2."
    return ""


def _different(_module: Any) -> str:
    good, bad = [one.good for one in _examples()], [one.bad for one in _examples()]
    if len(set(zip(good, bad, strict=True))) < len(good):
        return "Some examples occur twice: they make the score look more certain than it is."
    both = set(good) & set(bad)
    return f"The sentence {both.pop()!r} is right in one example and wrong in another." if both else ""


def _minimal(_module: Any) -> str:
    for one in _examples():
        good, bad = one.good.split(), one.bad.split()
        if len(good) != len(bad) or sum(a != b for a, b in zip(good, bad, strict=True)) != 1:
            return f"{one.good!r} and {one.bad!r} do not differ in exactly one word."
    return ""


def _by_length(_module: Any) -> str:
    found = _examples()
    longer = sum(len(one.good) > len(one.bad) for one in found) / len(found)
    shorter = sum(len(one.good) < len(one.bad) for one in found) / len(found)
    share, what = max((longer, "longer"), (shorter, "shorter"))
    if share <= MOST_BY_LENGTH:
        return ""
    return (
        f"In {share:.0%} of the examples, the {what} sentence is right: always choosing it beats chance without "
        f"any "
        "grammar. Use subjects in the singular and in the plural."
    )


def _repeatable(_module: Any) -> str:
    first, second = ([(one.good, one.bad) for one in _examples()] for _ in range(2))
    return "" if first == second else "Loaded twice, the task has different examples: scores would not be comparable."


TASK = Exercise(
    title="A task",
    about="Pairs of sentences that only grammar distinguishes; one of each pair is right.",
    task=(
        "A task of the kind “pairs” has examples of two sentences, good and bad. The model is right where the good "
        "one is more probable; guessing gives 0.5.",
        "Make a task “agreement” of at least 100 examples in which the verb agrees with the subject, or does not: "
        "the cat sleeps, the cat sleep. Make them from lists of words, in the function rows. The two sentences of an "
        "example differ in exactly one word.",
        "Then look for shortcuts in your task. If the longer sentence is right most of the time, a model can score "
        "well without any grammar.",
    ),
    hints=(
        "Three nested loops, over nouns, verbs and words such as “today”, make many sentences from short lists.",
        "“The cats sleep.” is good and “The cats sleeps.” is bad: there, the shorter sentence is right.",
        "Do not draw from random numbers without a seed: random.Random(1) gives the same ones each time.",
    ),
    start="exercises/task.py",
    checks=(
        Check(f'The plugin adds a task "agreement" of {FEWEST} examples or more.', _enough),
        Check("No example occurs twice, and no sentence is both right and wrong.", _different),
        Check("The sentences of an example differ in one word.", _minimal),
        Check("The length of a sentence does not tell whether it is right.", _by_length),
        Check("The task is the same each time it is loaded.", _repeatable),
    ),
    then=("tinyslm evaluate MODEL --plugin FILE --tasks agreement",),
)
