"""A pack: the skills of one job, each with a generator of examples and a grader, and a recipe to teach them.

The rows of a pack are conversations for `tinyslm finetune`, with the fields that its grader reads. Their names are
"messages" (which end with the right answer, to which the other fields belong), "tools" (where there are any), "skill",
"answer", and those of the skill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.registry import Registry
from tinyslm.evaluation.graders import GRADERS, Example, Grade, Grader
from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.generated import GENERATION
from tinyslm.evaluation.tasks.loading import SUITES, TASKS
from tinyslm.evaluation.tasks.task_config import Rows, TaskConfig
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tools.tool import Tool

if TYPE_CHECKING:
    from tinyslm.packs.browser_page import BrowserPage
    from tinyslm.serving.page import Page

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
    constraint: what an answer to a row may look like, for constrained decoding; `None` for any text. weight: how often
    it occurs in the rows to learn from, relative to the other skills.
    """

    name: str
    about: str
    make: Callable[[Random, Split], Row]
    grade: Grader
    convert: Callable[[Mapping[str, Any]], Row | None] = lambda _: None
    tools: Sequence[Tool] = ()
    max_tokens: int = 128
    constraint: Callable[[Row], OutputConstraint] | None = None
    weight: int = 1


Answerer = Callable[[Sequence[Row]], list[str]]
"""Answers rows as they are asked: a model with its settings, or a program."""


@dataclass(frozen=True)
class Demonstration:
    """What a demo found: lines for people, the same as a JSON value, and the file that it wrote, if any."""

    lines: Sequence[str]
    data: Any
    written: Path | None = None


class Demo(Protocol):
    """A pack at work on a user's file."""

    def __call__(self, file: Path, request: str, answer: Answerer, out: Path | None) -> Demonstration:
        """Ask about `file`, with the user's words if the pack takes any ("" otherwise), and write the result to `out`.

        Raises `TinyslmError` for a file that cannot be used.
        """


@dataclass(frozen=True)
class Pack:
    """Everything for one job.

    settings: those of `finetune` that differ from the usual ones. rows: how many it learns from, by default.
    requests: a file of questions that people wrote, in rows that the skills convert; they are only for testing.
    baseline: makes a program that answers without a model, from the rows that a model would learn from. page: the
    page of the server on which people try it; called when it is served. browser_page: the same without a server;
    called when it is deployed.
    """

    name: str
    about: str
    skills: Sequence[Skill]
    rows: int = 8_000
    settings: Mapping[str, Any] = field(default_factory=dict)
    requests: Path | None = None
    baseline: Callable[[Sequence[Row]], Answerer] | None = None
    demo: Demo | None = None
    page: Callable[[], Page] | None = None
    browser_page: Callable[[], BrowserPage] | None = None

    @property
    def tasks(self) -> list[str]:
        """The names of its evaluation tasks: the requests that people wrote, where there are any, and each skill."""
        written = [f"{self.name}_requests"] if self.requests else []
        return written + [f"{self.name}_{skill.name}" for skill in self.skills]

    def written_requests(self) -> Iterator[tuple[str, Row]]:
        """The requests that people wrote as rows, each with its location."""
        assert self.requests is not None
        for place, row in rows_of(self.requests):
            if (found := self.convert(row)) is None:
                raise TinyslmError(f"{place} fits no skill of the pack {self.name}.", "Correct the row.")
            yield place, found

    def constraint(self, row: Row) -> OutputConstraint | None:
        """What an answer to a row may look like, by its skill."""
        made = self.skill(str(row["skill"])).constraint
        return made(row) if made else None

    def check_page(self) -> None:
        """Raise `TinyslmError` for a pack without a page."""
        if self.page is None:
            having = ", ".join(name for name in PACKS if PACKS[name].page)
            raise TinyslmError(f"The pack {self.name} has no page.", f"Those that have one: {having}")

    def page_of_a_browser(self) -> BrowserPage:
        """Its page without a server. Raises `TinyslmError` for a pack without one."""
        if self.browser_page is None:
            having = ", ".join(name for name in PACKS if PACKS[name].browser_page)
            served = f", or serve it: tinyslm serve MODEL --pack {self.name}" if self.page else "."
            raise TinyslmError(
                f"The pack {self.name} has no page that runs in a browser alone. Those that have one: {having}.",
                f"Leave out --pack{served}",
            )
        return self.browser_page()

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
        made = {skill.name: unique_rows(skill, split, seed) for skill in self.skills}
        turns = [
            skill.name
            for turn in range(max(skill.weight for skill in self.skills))
            for skill in self.skills
            if turn < skill.weight
        ]
        for number in range(count):
            yield next(made[turns[number % len(turns)]])

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
    """What the user asks in a row: all of the user's messages, with an empty line between them."""
    return "\n\n".join(str(one["content"]) for one in row["messages"] if one["role"] == "user")


def as_asked(row: Mapping[str, Any]) -> Row:
    """A row for evaluation: its messages end with the last question."""
    asked = max(number for number, one in enumerate(row["messages"], 1) if one["role"] == "user")
    return {**row, "messages": row["messages"][:asked]}


PACKS: Registry[Pack] = Registry("pack")


def add_pack(pack: Pack) -> None:
    """Register a pack: its grader, by the pack's name; a task for each skill; and a suite of these tasks."""
    PACKS.add(pack.name, pack)
    GRADERS.add(pack.name, pack.grade)
    SUITES.add(pack.name, pack.tasks)
    options = {"grader": pack.name, "constraint": pack.constraint}
    if pack.requests:
        about = TaskConfig(
            GENERATION,
            make=partial(_requests, pack),
            options=options,
            sampling=SamplingSettings(temperature=0.0, max_tokens=max(skill.max_tokens for skill in pack.skills)),
            about=f"requests for the pack {pack.name} as people write them",
        )
        TASKS.add(f"{pack.name}_requests", about)
    for skill in pack.skills:
        about = TaskConfig(
            GENERATION,
            make=partial(_test_rows, skill),
            rows=partial(_rows_of_file, skill),
            options={**options, "tools": skill.tools},
            sampling=SamplingSettings(temperature=0.0, max_tokens=skill.max_tokens),
            about=skill.about,
        )
        TASKS.add(f"{pack.name}_{skill.name}", about)


def _requests(pack: Pack) -> Rows:
    for place, row in pack.written_requests():
        yield place, {"group": row["skill"], **as_asked(row)}


def _test_rows(skill: Skill) -> Rows:
    rows = unique_rows(skill, "test", TEST_SEED)
    for number, row in zip(range(1, TEST_ROWS + 1), rows, strict=False):
        yield f"{skill.name}, row {number}", as_asked(row)


def _rows_of_file(skill: Skill, path: Path) -> Rows:
    """The skill's rows of a file that `tinyslm packs data` wrote, as questions."""
    for place, row in rows_of(path):
        if row.get("skill") == skill.name and isinstance(row.get("messages"), list):
            yield place, as_asked(row)
