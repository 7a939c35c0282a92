"""What an exercise is: a task in words, a file to start from, and checks of what the learner's code does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.registry import Registry


@dataclass(frozen=True)
class Check:
    """One check of a solution.

    description: what holds for a correct solution. failure: for the learner's module, a sentence that explains what is
    wrong, or "" if the check passes; it may raise whatever the learner's code raises.
    """

    description: str
    failure: Callable[[Any], str]


@dataclass(frozen=True)
class Exercise:
    """One task.

    about: a sentence for the table of contents. task: paragraphs. hints: each more explicit than the one
    before. start: the file of `lessons/` to begin with. then: commands to try with the solution, in which FILE is the
    learner's file.
    """

    title: str
    about: str
    task: Sequence[str]
    hints: Sequence[str]
    start: str
    checks: Sequence[Check]
    then: Sequence[str] = ()


EXERCISES: Registry[Exercise] = Registry("exercise")
"""By name, in the order of their difficulty; the first is number 1."""


def lessons() -> Path:
    """The folder `lessons`: inside an installed package, next to `src` in a source tree."""
    package = Path(__file__).parents[2]
    inside = package / "lessons"
    return inside if inside.is_dir() else package.parents[1] / "lessons"
