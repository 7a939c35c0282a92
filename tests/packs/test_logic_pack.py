"""The pack `logic`: its rows, graders, tasks, and what a model learns from it."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import conversation_of, read_conversations
from tinyslm.data.examples import examples_of
from tinyslm.data.lint.linting import read_examples, run_checks
from tinyslm.data.ngrams import overlapping
from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.graders import find_grader
from tinyslm.evaluation.running import Subject, run_task
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Completion
from tinyslm.inference.tools.calculator import calculate
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.packs import LOGIC
from tinyslm.packs.logic.arithmetic import calls_of
from tinyslm.packs.logic.boolean import is_held_out, parse
from tinyslm.packs.logic.deduction import solutions, solved
from tinyslm.packs.pack import PACKS, Skill, question_of, unique_rows
from tinyslm.packs.rows import make_rows

SKILLS = [skill.name for skill in LOGIC.skills]


def rows_of(skill: str, split: str, count: int = 40) -> list[dict]:
    return list(islice(unique_rows(LOGIC.skill(skill), split, 3), count))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("skill", SKILLS)
def test_rows_are_right_different_and_repeatable(skill: str, split: str) -> None:
    rows = rows_of(skill, split)
    assert rows == rows_of(skill, split)
    assert len({question_of(row) for row in rows}) == len(rows)
    grader = find_grader("logic")
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        assert grader(row, row["messages"][-1]["content"]).score == 1
        assert grader(row, "").score == 0
        if other["answer"] != row["answer"] and skill != "extraction":
            assert grader(row, other["answer"]).score == 0


@pytest.mark.parametrize("skill", SKILLS)
def test_no_test_question_overlaps_with_what_is_learned(skill: str) -> None:
    train, test = ([question_of(row) for row in rows_of(skill, split, 300)] for split in ("train", "test"))
    found, checked = overlapping(test, train)
    assert checked.sum() > 200 or skill == "extraction"
    assert not found.any()


def test_calls_were_executed() -> None:
    for row in rows_of("arithmetic", "train"):
        calls = list(calls_of(row["messages"]))
        assert 2 <= len(calls) <= 4
        assert all(calculate(expression) == result for expression, result in calls)
        assert calls[-1][1] == row["answer"] == calculate(row["expression"])
        assert row["tools"][0]["function"]["name"] == "calculator"


def test_shapes_of_expressions_are_held_out() -> None:
    for split in ("train", "test"):
        rows = rows_of("boolean", split)
        assert {is_held_out(parse(row["expression"])) for row in rows} == {split == "test"}
        assert 10 <= sum(row["answer"] == "true" for row in rows) <= 30


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A", True),
        ("not A", False),
        ("A and B or A", True),
        ("A or A and B", True),
        ("B and (B or A)", False),
        ("not not (A xor B)", True),
        ("A xor A or B", False),
    ],
)
def test_expressions_are_read_with_precedence(text: str, value: bool) -> None:
    assert parse(text).value({"A": True, "B": False}) is value


@pytest.mark.parametrize("text", ["", "A and", "(A", "A B", "and A", "A & B", ")"])
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


def test_puzzles_have_one_solution_and_no_clue_too_many() -> None:
    for row in rows_of("deduction", "train"):
        assert len(solutions(row)) == 1
        for clue in row["clues"]:
            assert len(solutions({**row, "clues": [one for one in row["clues"] if one != clue]})) > 1
    row = {"names": ["Ann", "Bob"], "clues": [], "question": ["place", 1]}
    with pytest.raises(ValueError, match="2 answers"):
        solved(row)
    assert solved({**row, "clues": [["place", "Bob", 1]]}) == "Bob"


@pytest.mark.parametrize(
    ("skill", "fields", "said"),
    [
        ("arithmetic", {"expression": "2 +"}, "has no value"),
        ("boolean", {"expression": "A", "values": {}}, "has no value"),
        ("deduction", {"names": ["Ann"], "clues": [["near", "Ann"]], "question": ["place", 1]}, "is no clue"),
        ("deduction", {"names": list("abcdefgh"), "clues": [], "question": ["place", 1]}, "more than 7"),
        ("cooking", {}, 'no skill "cooking"'),
    ],
)
def test_faulty_examples_are_named(skill: str, fields: dict, said: str) -> None:
    with pytest.raises(TinyslmError, match=said):
        LOGIC.grade({"skill": skill, **fields}, "x")
    with pytest.raises(TinyslmError, match='no field "skill"'):
        LOGIC.grade(fields, "x")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Rows in the forms of published sets."""
    worked = "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>72.\n#### 72"
    rows = [
        [
            *({"question": f"Case {n}: how many clips did she sell?", "answer": worked} for n in range(30)),
            {"question": "A wrong step?", "answer": "<<2+2=5>>5\n#### 5"},
            {"question": "No steps?", "answer": "#### 5"},
        ],
        [{"input": f"lamp {n} 5.99", "output": f"title: lamp {n}\nprice: 5.99"} for n in (1, 2)],
    ]
    paths = [tmp_path / "math.jsonl", tmp_path / "products.jsonl"]
    for path, some in zip(paths, rows, strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return paths


def test_files_are_imported(files: list[Path], tmp_path: Path) -> None:
    skipped: list[str] = []
    made = make_rows(LOGIC, 8, files=files, skip=lambda place, _: skipped.append(place))
    assert (made.imported, made.unused) == (32, 2)
    assert skipped == ["math.jsonl, row 31", "math.jsonl, row 32"]
    row = next(row for row in made.train if question_of(row).startswith("Case"))
    assert list(calls_of(row["messages"])) == [("48/2", "24"), ("48+24", "72")]
    assert [one["content"] for one in row["messages"] if one["role"] == "assistant"] == [
        "She sold 48/2",
        "24 clips in May.\nIn all 48+24",
        "72.\nThe answer is 72.",
    ]
    product = LOGIC.convert({"input": "lamp 5.99", "output": "title: lamp\nprice: 5.99"})
    assert product is not None
    assert LOGIC.grade(product, '{"title": "Lamp", "price": 5.99}').parts["equal"] == 1
    assert LOGIC.grade(product, '{"title": "lamp"}').score == pytest.approx(2 / 3)
    assert not {question_of(row) for row in made.train} & {question_of(row) for row in made.test}
    made.write(tmp_path / "out")
    assert len((tmp_path / "out/train.jsonl").read_text().splitlines()) == len(made.train)
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(TinyslmError, match="has no rows that the pack logic can use"):
        make_rows(LOGIC, 8, files=[tmp_path / "other.jsonl"])


def test_the_rows_pass_the_checks_and_calls_are_learned(tmp_path: Path, byte_tokenizer) -> None:
    make_rows(LOGIC, 200).write(tmp_path / "data")
    path = tmp_path / "data/train.jsonl"
    assert not [finding for finding in run_checks(read_examples([path])).findings if finding.severity != "note"]
    talk = next(one for one in read_conversations([path]) if one.tools)
    (example,) = examples_of(talk, byte_tokenizer)
    learned = byte_tokenizer.decode(example.ids[example.learned].tolist())
    for expression, result in calls_of(talk.messages):
        call = {"name": "calculator", "arguments": {"expression": expression}}
        assert json.dumps(call, separators=(",", ":")) in learned
        assert f"<tool_response>\n{result}" not in learned
    assert "The answer is" in learned
    assert "# Tools" in byte_tokenizer.decode(example.ids.tolist())


def test_what_is_learned_is_what_the_engine_serves(byte_tokenizer) -> None:
    (row,) = rows_of("arithmetic", "train", 1)
    (example,) = examples_of(conversation_of(row, "row 1"), byte_tokenizer)
    shape = {"dim": 16, "heads": 2, "depth": 1, "context": 4096, "vocab_size": byte_tokenizer.vocab_size}
    engine = Engine(Decoder(ModelConfig(**shape)), byte_tokenizer)
    answers = [number for number, one in enumerate(row["messages"]) if one["role"] == "assistant"]
    starts = np.flatnonzero(np.diff(example.learned.astype(int)) == 1) + 1
    assert len(starts) == len(answers)
    for start, number in zip(starts, answers, strict=True):
        assert engine.chat_ids(row["messages"][:number], row["tools"]) == tuple(example.ids[:start])


class Calculates:
    """A program that answers each question in two steps: a call, and what came of it."""

    def __init__(self, expressions: dict[str, str]) -> None:
        self.expressions = expressions
        self.rounds: list[int] = []

    def answer_many(self, asked, _reading, _settings, _progress):
        from tinyslm.evaluation.answers import Answers

        self.rounds.append(len(asked))
        return Answers([Completion(self._say(one), "stop", 1) for one in asked])

    def _say(self, one) -> str:
        last = one.prompt[-1]
        if last["role"] == "tool":
            return f"The answer is {last['content']}."
        if "skip" in self.expressions:
            return "I do not know."
        call = {"name": "calculator", "arguments": {"expression": self.expressions[last["content"]]}}
        return f"So:\n<tool_call>\n{json.dumps(call)}\n</tool_call>"


def test_calls_are_executed_in_an_evaluation() -> None:
    (task,) = load_tasks("logic_arithmetic", limit=10)
    program = Calculates({example.text: example.row["expression"] for example in task.examples})
    score = run_task(Subject("calculates", None, program, Reading((), 1000)), task)
    assert (score.value, score.chance, score.items) == (1.0, 0.0, 10)
    assert program.rounds == [10, 10]
    assert score.tokens == 20
    assert score.answers[0].startswith("The answer is ")
    wrong = run_task(Subject("says no", None, Calculates({"skip": ""}), Reading((), 1000)), task)
    assert wrong.value == 0


def test_the_suite_has_a_task_for_each_skill(tmp_path: Path) -> None:
    tasks = load_tasks("logic", limit=4)
    assert [task.name for task in tasks] == [f"logic_{name}" for name in SKILLS]
    assert tasks[1].chance == 0.5
    assert 0.2 < tasks[2].chance < 0.4
    make_rows(PACKS["logic"], 8).write(tmp_path / "data")
    (own,) = load_tasks(f"logic_boolean={tmp_path / 'data/test.jsonl'}")
    assert len(own.examples) > 100


def test_a_generator_that_has_nothing_new_is_an_error() -> None:
    (row,) = rows_of("boolean", "train", 1)
    skill = Skill("one", "", lambda *_: row, LOGIC.grade)
    with pytest.raises(TinyslmError, match="no more than 1 different"):
        list(unique_rows(skill, "train", 1))
