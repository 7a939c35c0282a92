"""Kinds of task, the sets that are shipped, users' own tasks, and what is said of files that cannot be used."""

import ast
import json
import math
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.core.plugins import load_plugins
from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.protocols import Continuation, ContinuationScore
from tinyslm.evaluation.running import Subject, run_task
from tinyslm.evaluation.tasks.loading import KINDS, load_tasks
from tinyslm.evaluation.tasks.published import PUBLISHED
from tinyslm.evaluation.tasks.shipped import SETS, SHIPPED
from tinyslm.inference.request import Completion

CHAT = [{"role": "user", "content": "Hello"}]
ROWS = {
    "pairs": {"good": "a b", "bad": "b a"},
    "choice": {"prompt": "Q?", "choices": ["yes", "no"], "answer": 0},
    "last_word": {"text": "one two"},
    "bits_per_byte": {"text": "one two"},
    "generation": {"prompt": "Q?", "answer": "A"},
    "tool_calls": {"prompt": "Q?", "tools": [], "calls": []},
}


class ByLength:
    """A program that finds every text as probable as its length says."""

    def score_text(self, request: Continuation) -> ContinuationScore:
        return ContinuationScore(-float(len(request.text)), len(request.text.split()), False)


class Says:
    """A program that always gives the same answer."""

    def __init__(self, text: str) -> None:
        self.text = text

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_chat(self, _messages: object) -> None:
        return None

    def generate(self, _prompt: object, _settings: object) -> Completion:
        return Completion(self.text, "stop", 1, ())


def task_of(kind: str, rows: list[dict], folder: Path, **options: object):
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [f'kind = "{kind}"', 'data = "data.jsonl"', *(f"{key} = {json.dumps(one)}" for key, one in options.items())]
    (folder / "mine.toml").write_text("\n".join(lines), encoding="utf-8")
    (task,) = load_tasks(str(folder / "mine.toml"))
    return task


def scored(task):
    return run_task(Subject("lengths", ByLength(), None, Reading((), 100)), task)


def answered(task, text: str):
    return run_task(Subject("answers", None, Says(text), Reading((), 1000)), task)


# Kinds.


def test_ties_in_pairs_count_half_and_identical_pairs_are_dropped(tmp_path: Path) -> None:
    rows = [
        {"good": "aa", "bad": "bb"},
        {"good": "a", "bad": "bb"},
        {"good": "aaa", "bad": "b"},
        {"good": "a", "bad": "a"},
    ]
    score = scored(task_of("pairs", rows, tmp_path))
    assert [one["accuracy"] for one in score.outcomes] == [0.5, 1.0, 0.0]
    assert (score.value, score.chance, score.items, score.dropped) == (0.5, 0.5, 3, 1)


def test_equal_scores_never_favour_an_index(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "choices": ["aa", "bb", "cc", "dddd"], "answer": right} for right in range(4)]
    score = scored(task_of("choice", rows, tmp_path))
    assert [one["raw"] for one in score.outcomes] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_choices_are_scored_raw_per_token_and_per_byte(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Q", "choices": ["x y z u", "vvv"], "answer": 0},
        {"prompt": "Q", "choices": ["é", "ee"], "answer": 1},
    ]
    score = scored(task_of("choice", rows, tmp_path))
    # " x y z u": 8 characters, 4 tokens, 7 bytes; " vvv": 4, 1, 3. " é": 2, 1, 2 bytes; " ee": 3, 1, 2.
    assert score.outcomes[0] == {"per_byte": 1.0, "raw": 0.0, "per_token": 1.0}
    assert score.outcomes[1] == {"per_byte": 0.0, "raw": 0.0, "per_token": 0.0}
    assert list(score.metrics) == ["per_byte", "raw", "per_token"]
    assert (score.metric, score.value) == ("per_byte", 0.5)
    assert scored(task_of("choice", rows, tmp_path, metric="raw")).value == 0


@pytest.mark.parametrize(
    ("kind", "rows", "chance"),
    [
        ("pairs", [ROWS["pairs"]], 0.5),
        ("choice", [ROWS["choice"], {"prompt": "Q", "choices": ["a", "b", "c", "d"], "answer": 1}], 0.375),
        ("last_word", [ROWS["last_word"]], 0.0),
        ("bits_per_byte", [ROWS["bits_per_byte"]], None),
        ("generation", [ROWS["generation"]], 0.0),
        ("tool_calls", [ROWS["tool_calls"]], 0.0),
    ],
)
def test_chance_levels(kind: str, rows: list[dict], chance: float | None, tmp_path: Path) -> None:
    assert task_of(kind, rows, tmp_path).chance == chance
    assert set(ROWS) == set(KINDS)


def test_choices_by_their_text_and_numbers_in_texts(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "choices": ["a", "b"], "answer": one} for one in ("b", 1, "1")]
    assert [one.right for one in task_of("choice", rows, tmp_path).examples] == [1, 1, 1]
    rows = [{"prompt": "2 + 2 =", "choices": ["3", "4"], "answer": "4"}]
    assert task_of("choice", rows, tmp_path).examples[0].right == 1, "a text of the choices, before a number"


def test_bits_per_byte_are_those_of_all_bytes_together(tmp_path: Path) -> None:
    score = scored(task_of("bits_per_byte", [{"text": "é" * 5}, {"text": "a" * 40}, {"text": ""}], tmp_path))
    assert score.value == pytest.approx(45 / math.log(2) / 50)
    assert (score.chance, score.above_chance, score.dropped) == (None, None, 1)


def test_answers_are_graded_and_parts_are_metrics(tmp_path: Path) -> None:
    rows = [{"q": "One and one?", "a": 2, "group": "x"}, {"q": "Two and two?", "a": 4, "group": "y"}]
    task = task_of("generation", rows, tmp_path, prompt="Say: {q}", answer="a", grader="numeric", stop=["\n"])
    assert [one.prompt() for one in task.examples] == ["Say: One and one?", "Say: Two and two?"]
    score = answered(task, "It is 4.")
    assert (score.value, score.groups, score.answers) == (0.5, {"x": 0.0, "y": 1.0}, ("It is 4.",) * 2)
    chat = task_of("generation", rows, tmp_path, prompt="{q}", answer="a", chat=True)
    assert chat.examples[0].prompt() == [{"role": "user", "content": "One and one?"}]


def test_a_grader_in_a_file_beside_the_task(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def short(example, answer):\n    return len(answer) <= example['most']\n")
    task = task_of(
        "generation", [{"prompt": "Q", "most": 3}, {"prompt": "Q", "most": 1}], tmp_path, grader="mine.py:short"
    )
    assert answered(task, "yes").value == 0.5


# Files that cannot be used.


@pytest.mark.parametrize(
    ("kind", "row", "problem"),
    [
        ("pairs", {"good": "a"}, 'no field "bad"'),
        ("pairs", {"good": "a", "bad": 3}, '"bad" is not a text'),
        ("pairs", {"good": " ", "bad": "b"}, '"good" is empty'),
        ("choice", {"prompt": "Q", "choices": ["a", "b"], "answer": 2}, "numbered from 0 to 1"),
        ("choice", {"prompt": "Q", "choices": ["a", "b"], "answer": -1}, "numbered from 0 to 1"),
        ("choice", {"prompt": "Q", "choices": ["a", "b"], "answer": "c"}, "not one of its choices"),
        ("choice", {"prompt": "Q", "choices": ["a", "b"]}, "not the number of a choice"),
        ("choice", {"prompt": "Q", "choices": ["a", "b"], "answer": True}, "not the number of a choice"),
        ("choice", {"prompt": "Q", "choices": ["a", " "], "answer": 0}, "choice 1 is empty"),
        ("choice", {"prompt": "Q", "choices": ["a"], "answer": 0}, "has 1 choices"),
        ("choice", {"prompt": "Q", "choices": "ab", "answer": 0}, "not a list of texts"),
        ("choice", {"choices": ["a", "b"], "answer": 0}, 'no field "prompt"'),
        ("choice", {"options": [["a"], 3], "answer": 0}, "pairs of a context and a text"),
        ("last_word", {"text": "word"}, "single word"),
        ("bits_per_byte", {"txt": "a"}, 'no field "text"'),
        ("generation", {"answer": "a"}, 'no field "prompt"'),
        ("generation", {"messages": []}, "messages"),
        ("generation", {"messages": [{"role": "user"}]}, "messages"),
        ("generation", {"prompt": "Q"}, 'no field "answer"'),
        ("generation", {"prompt": ["Q"], "answer": "a"}, '"prompt" is not a text'),
        ("tool_calls", {"tools": [], "calls": []}, 'no field "prompt"'),
        ("tool_calls", {"prompt": "Q", "tools": []}, '"tools" or "calls" are missing'),
        ("tool_calls", {"prompt": "Q", "tools": [], "calls": ["f"]}, '{"name": ..., "arguments": {...}}'),
        (
            "tool_calls",
            {"prompt": "Q", "tools": [], "calls": [{"name": "f", "arguments": {"x": 1}}]},
            "accepted values",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(kind: str, row: dict, problem: str, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError) as caught:
        task_of(kind, [ROWS[kind], row], tmp_path)
    assert problem in caught.value.problem
    assert "data.jsonl, line 2" in caught.value.problem
    assert "\n" not in caught.value.problem + caught.value.remedy


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("blimp={}", b"", "has no examples"),
        ("blimp={}", b"\n\n", "has no examples"),
        ("blimp={}", b'{"good": "a", "bad": "a"}', "has no examples (1 rows were skipped)"),
        ("blimp={}", b'{"good": "a", "bad": "b"}\n{"good": "a"', "data.jsonl, line 2 is not valid JSON"),
        ("blimp={}", b"[1]", "data.jsonl, item 1 is not a JSON object"),
        ("blimp={}", b'{"good": "a", "bad": "b"}\n7', "data.jsonl, line 2 is not a JSON object"),
        ("blimp={}", b'{"good": "\xff", "bad": "b"}', "data.jsonl, line 1 is not valid JSON"),
        ("lambada={}.txt", b"", "Could not read"),
        ("blimp={}.gone", b"", "Could not read"),
        ("{}", b"", "is not a task"),
    ],
)
def test_files_that_cannot_be_used_are_named(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(TinyslmError) as caught:
        load_tasks(name.format(path))
    assert problem in caught.value.problem
    assert "\n" not in caught.value.problem + caught.value.remedy


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('kind = "pairs"\ndata = "data.jsonl"\ngrade = "exact"', 'Did you mean "grader"?'),
        ('kind = "pair"\ndata = "data.jsonl"', 'Did you mean "pairs"?'),
        ('kind = "generation"\ndata = "data.jsonl"\ngrader = "exakt"', 'Did you mean "exact"?'),
        ('kind = "choice"\ndata = "data.jsonl"\nmetric = "per_bytes"', 'Did you mean "per_byte"?'),
        ('kind = "pairs"', "data"),
        ('kind = "pairs"\ndata = "gone.jsonl"', "gone.jsonl"),
        ("kind = pairs", "mine.toml"),
    ],
)
def test_task_files_that_cannot_be_used(toml: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps(ROWS["generation"] | ROWS["choice"]), encoding="utf-8")
    (tmp_path / "mine.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(TinyslmError) as caught:
        load_tasks(str(tmp_path / "mine.toml"))
    assert said in str(caught.value)


def test_unknown_and_repeated_names() -> None:
    for names, said in {"gramar": 'Did you mean "grammar"?', "": "--tasks", "grammar,grammar": "grammar"}.items():
        with pytest.raises(TinyslmError) as caught:
            load_tasks(names)
        assert said in str(caught.value)
    with pytest.raises(TinyslmError, match="zorro=FILE"):
        load_tasks("zorro")


def test_a_limit_takes_examples_from_all_over_the_file() -> None:
    (whole,), (some,) = load_tasks("grammar"), load_tasks("grammar", limit=30)
    assert len(some.examples) == 30
    assert {one.group for one in some.examples} == {one.group for one in whole.examples}


def test_a_plugin_adds_a_task_and_a_grader(tmp_path: Path) -> None:
    (tmp_path / "rhymes.jsonl").write_text('{"prompt": "What rhymes with cat?", "ends": "at"}\n', encoding="utf-8")
    (tmp_path / "plugin.py").write_text(
        f"""
from tinyslm.evaluation.graders import GRADERS, Grade
from tinyslm.evaluation.tasks.task_config import TaskConfig
from tinyslm.evaluation.tasks.files import rows_of
from tinyslm.evaluation.tasks.generated import GENERATION
from tinyslm.evaluation.tasks.loading import TASKS
from pathlib import Path

@GRADERS.register("rhyme of the tests")
def rhyme(example, answer):
    return Grade(float(answer.endswith(example["ends"])))

folder = Path({str(tmp_path)!r})
rhymes = TaskConfig(GENERATION, lambda path: rows_of(folder / path), options={{"grader": "rhyme of the tests"}})
TASKS.add("rhymes of the tests", rhymes)
""",
        encoding="utf-8",
    )
    load_plugins((str(tmp_path / "plugin.py"),))
    (task,) = load_tasks("rhymes of the tests=rhymes.jsonl")
    assert (answered(task, "a bat").value, answered(task, "a dog").value) == (1.0, 0.0)


# Shipped sets.


def rows_in(name: str) -> list[dict]:
    return [json.loads(line) for line in (SETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_are_read_in_full(name: str) -> None:
    (task,) = load_tasks(name)
    rows = rows_in(name)
    assert len(task.examples) == len(rows)
    assert len({json.dumps(row, sort_keys=True) for row in rows}) == len(rows), "no item occurs twice"
    assert all(example.text.strip() for example in task.examples)
    assert SHIPPED[name].file == f"{name}.jsonl"


def test_the_sizes_of_shipped_sets() -> None:
    least = {"grammar": 150, "everyday": 60, "last_words": 40, "texts": 10, "arithmetic": 50, "extraction": 30}
    least |= {"instructions": 25, "functions": 30, "tool_calls": 60}
    assert set(least) == set(SHIPPED)
    for name, count in least.items():
        assert len(rows_in(name)) >= count, name
    assert {path.stem for path in SETS.glob("*")} == set(SHIPPED)


def test_the_pairs_of_grammar_are_minimal() -> None:
    rows = rows_in("grammar")
    assert len({row["group"] for row in rows}) >= 10
    for row in rows:
        good, bad = (row[name].lower().rstrip(".?").split() for name in ("good", "bad"))
        changed = [word for word in good if word not in bad] + [word for word in bad if word not in good]
        assert len(changed) <= 4, row
        assert row["good"][-1] == row["bad"][-1], row


def test_the_answers_of_everyday_are_in_all_places_and_not_told_by_length() -> None:
    rows = rows_in("everyday")
    places = [row["answer"] for row in rows]
    assert all(places.count(place) >= len(rows) // 5 for place in range(4))
    longest = sum(max(row["choices"], key=len) == row["choices"][row["answer"]] for row in rows)
    assert longest < len(rows) / 2


def test_the_last_words_stand_in_their_passages_or_follow_from_them() -> None:
    repeated = sum(row["text"].rpartition(" ")[2] in row["text"].rpartition(" ")[0] for row in rows_in("last_words"))
    assert repeated >= 0.9 * len(rows_in("last_words"))


def right_and_wrong(name: str, row: dict) -> tuple[str, str]:
    """The reference answer to a row, and a wrong one."""
    if name == "arithmetic":
        return row["answer"], str(int(row["answer"]) + 1)
    if name == "extraction":
        return json.dumps(row["answer"]), json.dumps(dict.fromkeys(row["answer"], "x"))
    if name == "tool_calls":
        call = row["calls"][0]
        least = {key: one[0] for key, one in call["arguments"].items() if None not in one and "" not in one}
        call = {"name": call["name"], "arguments": least}
        (other, *_) = (one["function"]["name"] for one in row["tools"] if one["function"]["name"] != call["name"])
        return tuple(f"<tool_call>{json.dumps(one)}</tool_call>" for one in (call, call | {"name": other}))
    return row["reference"], "" if name == "instructions" else "    return None\n"


@pytest.mark.parametrize("name", ["arithmetic", "extraction", "instructions", "tool_calls", "functions"])
def test_reference_answers_are_right_and_others_wrong(name: str) -> None:
    (task,) = load_tasks(name)
    for example, row in zip(task.examples, rows_in(name), strict=True):
        for answer, score in zip(right_and_wrong(name, row), (1.0, 0.0), strict=True):
            outcome = example.outcome(Completion(answer, "stop", 1, ()))
            assert outcome[task.metric] == score, (row, answer)


def test_sums_of_arithmetic() -> None:
    for row in rows_in("arithmetic"):
        question = row["question"].replace("times", "*").replace("divided by", "/").removeprefix("What is ").rstrip("?")
        if row["group"] != "in words":
            a, sign, b = question.split()
            found = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) / int(b)}[sign]
            assert float(row["answer"]) == found, row


def test_functions_are_python() -> None:
    for row in rows_in("functions"):
        ast.parse(row["entry"] + row["reference"] + row["test"])
        assert row["entry"].endswith('"""\n')


def test_every_name_says_what_it_tests() -> None:
    assert all(one.about for one in {**SHIPPED, **PUBLISHED}.values())
