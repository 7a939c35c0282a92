"""A pack: the skills of one job, each with a generator of examples and a grader, and a recipe to teach them.

The rows of a pack are conversations for `tinyslm finetune`, with the fields that its grader reads. Their names are
"messages" (which end with the right answer), "tools" (where there are any), "skill", "answer", and those of the skill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.registry import Registry
from tinyslm.evaluation.graders import GRADERS, Example, Grade, Grader
from tinyslm.evaluation.tasks.benchmark import Benchmark, Rows
from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.generated import GENERATION
from tinyslm.evaluation.tasks.loading import BENCHMARKS, SUITES
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tools.tool import Tool

Row = dict[str, Any]
Split = Literal["train", "test"]

TEST_SEED, TEST_ROWS = 0, 200
"""The generated rows of each skill's task."""
MOST_REPEATS = 1_000
"""Questions made again in a row after which a generator has nothing new."""


@dataclass(frozen=True)
class Skill:
    """One kind of question, with answers that a program can check.

    make: a row from random numbers; rows of the split "test" use templates, names and combinations that no row of
    "train" uses. convert: a row of a user's file as a row of this skill, or `None` if it is none. grade: scores an
    answer by computing the right one. tools: what the model may call on the way. max_tokens: of one step of an answer.
    """

    name: str
    about: str
    make: Callable[[Random, Split], Row]
    grade: Grader
    convert: Callable[[Mapping[str, Any]], Row | None] = lambda _: None
    tools: Sequence[Tool] = ()
    max_tokens: int = 128


@dataclass(frozen=True)
class Pack:
    """Everything for one job.

    settings: those of `finetune` that differ from the usual ones. rows: how many it learns from, unless told otherwise.
    """

    name: str
    about: str
    skills: Sequence[Skill]
    rows: int = 8_000
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """The names of its evaluation tasks, one of each skill."""
        return [f"{self.name}_{skill.name}" for skill in self.skills]

    def skill(self, name: str) -> Skill:
        """The skill of this name. Raises `TinyslmError` for unknown ones."""
        found = next((skill for skill in self.skills if skill.name == name), None)
        if found is None:
            names = [skill.name for skill in self.skills]
            raise TinyslmError(f'The pack {self.name} has no skill "{name}".', did_you_mean(name, names))
        return found

    def grade(self, example: Example, answer: str) -> Grade:
        """Score an answer to a row of this pack, by the skill in its field "skill"."""
        if "skill" not in example:
            raise TinyslmError(
                f'An example has no field "skill", which the grader {self.name} needs.',
                f"Grade rows of tinyslm packs data {self.name}.",
            )
        return self.skill(str(example["skill"])).grade(example, answer)

    def generate(self, split: Split, count: int, seed: int) -> Iterator[Row]:
        """`count` rows, the same for the same seed: the skills in turn, and no question twice in a skill."""
        made = [unique_rows(skill, split, seed) for skill in self.skills]
        for number in range(count):
            yield next(made[number % len(made)])

    def convert(self, row: Mapping[str, Any]) -> Row | None:
        """A row of a user's file as a row of this pack, or `None` if no skill can use it."""
        for skill in self.skills:
            if (found := skill.convert(row)) is not None:
                return finished(skill, found)
        return None


def unique_rows(skill: Skill, split: Split, seed: int) -> Iterator[Row]:
    """Rows of a skill with different questions, as long as its generator has new ones."""
    random, seen, repeats = Random(f"{skill.name} {split} {seed}"), set[str](), 0
    while repeats < MOST_REPEATS:
        row = finished(skill, skill.make(random, split))
        question = question_of(row)
        repeats = repeats + 1 if question in seen else 0
        if question not in seen:
            seen.add(question)
            yield row
    raise TinyslmError(
        f"The generator of {skill.name} has no more than {len(seen):,} different questions.", "Ask for fewer rows."
    )


def finished(skill: Skill, row: Row) -> Row:
    """A row with the name of its skill, and its tools."""
    tools = {"tools": [tool.schema() for tool in skill.tools]} if skill.tools else {}
    return {"skill": skill.name, **row, **tools}


def question_of(row: Mapping[str, Any]) -> str:
    """What the user asks in a row."""
    return str(next(one["content"] for one in row["messages"] if one["role"] == "user"))


def as_asked(row: Mapping[str, Any]) -> Row:
    """A row for evaluation: its messages end with the question."""
    asked = next(number for number, one in enumerate(row["messages"], 1) if one["role"] == "user")
    return {**row, "messages": row["messages"][:asked]}


PACKS: Registry[Pack] = Registry("pack")


def add_pack(pack: Pack) -> None:
    """Register a pack: its grader, by the pack's name; a task for each skill; and a suite of these tasks."""
    PACKS.add(pack.name, pack)
    GRADERS.add(pack.name, pack.grade)
    SUITES.add(pack.name, pack.tasks)
    for skill, task in zip(pack.skills, pack.tasks, strict=True):
        about = Benchmark(
            GENERATION,
            make=partial(_test_rows, skill),
            rows=partial(_rows_of_file, skill),
            options={"grader": pack.name, "tools": skill.tools},
            sampling=SamplingSettings(temperature=0.0, max_tokens=skill.max_tokens),
            about=skill.about,
        )
        BENCHMARKS.add(task, about)


def _test_rows(skill: Skill) -> Rows:
    rows = unique_rows(skill, "test", TEST_SEED)
    for number, row in zip(range(1, TEST_ROWS + 1), rows, strict=False):
        yield f"{skill.name}, row {number}", as_asked(row)


def _rows_of_file(skill: Skill, path: Path) -> Rows:
    """The skill's rows of a file that `tinyslm packs data` wrote, as questions."""
    for place, row in rows_of(path):
        if row.get("skill") == skill.name and isinstance(row.get("messages"), list):
            yield place, as_asked(row)
