"""A teacher writes more examples: deduplicated, graded, checked, and marked as synthetic."""

import json
from pathlib import Path

import pytest

from scripted_server import Server, scripted_server
from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.runtimes.endpoint import KEY_VARIABLE
from tinyslm.planning.teacher import Teacher, examples_in, extend_examples

GIVEN = [("What is one plus one?", "2"), ("How much is three and four?", "7"), ("Add five to six.", "11")]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with scripted_server() as made:
        yield made


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": one, "answer": two}) + "\n" for one, two in GIVEN))
    return path


def reply(*pairs: tuple[str, str]) -> tuple[int, dict]:
    content = json.dumps({"examples": [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]})
    return 200, {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "usage": {}}


def written(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_new_examples_are_kept_and_marked(server: Server, rows: Path, tmp_path: Path) -> None:
    server.answers = [
        reply(("What is one plus one ?", "2"), ("Tell me the sum of nine and ten", "19"), ("Double eight", "16")),
        reply(("double eight", "16"), ("Take four away from nine", "5")),
    ]
    found = extend_examples([rows], tmp_path / "more.jsonl", Teacher(server.url), count=3)
    assert [row["prompt"] for row in written(tmp_path / "more.jsonl")] == [
        "Tell me the sum of nine and ten",
        "Double eight",
        "Take four away from nine",
    ]
    assert all((row["synthetic"], row["teacher"]) == (True, "first") for row in written(tmp_path / "more.jsonl"))
    assert found.dropped == {"like an earlier one": 2}
    path, body, _ = server.asked[0]
    assert path == "/v1/chat/completions"
    assert all(json.dumps(one)[1:-1] in body["messages"][0]["content"] for pair in GIVEN for one in pair)
    assert body["response_format"]["type"] == "json_schema"
    assert body["seed"] != server.asked[1][1]["seed"]


def test_wrong_answers_and_rows_with_errors_are_dropped(server: Server, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "grader.py").write_text("def grade(example, answer):\n    return answer.isdigit()\n")
    server.answers = [reply(("Double eight", "sixteen"), ("Halve eight", "4"))]
    teacher = Teacher(server.url, grader=f"{tmp_path / 'grader.py'}:grade")
    found = extend_examples([rows], tmp_path / "more.jsonl", teacher, count=1)
    assert found.made == [("Halve eight", "4")]
    assert found.dropped == {"failed by the grader": 1}


def test_a_server_without_schemas_is_asked_without(server: Server, rows: Path, tmp_path: Path) -> None:
    server.answers = [(400, {"error": {"message": "response_format is not supported"}}), reply(("Halve eight", "4"))]
    extend_examples([rows], tmp_path / "more.jsonl", Teacher(server.url), count=1)
    assert "response_format" not in server.asked[1][1]


def test_what_was_made_is_written_when_the_server_fails(server: Server, rows: Path, tmp_path: Path) -> None:
    server.answers = [reply(("Halve eight", "4")), (500, {}), (500, {})]
    with pytest.raises(TinyslmError):
        extend_examples([rows], tmp_path / "more.jsonl", Teacher(server.url), count=5)
    assert [row["completion"] for row in written(tmp_path / "more.jsonl")] == ["4"]


def test_a_teacher_without_ideas_ends_it(server: Server, rows: Path, tmp_path: Path) -> None:
    server.answers = [reply(("Halve eight", "4"))] + [reply(("Halve eight", "4"))] * 8
    assert len(extend_examples([rows], tmp_path / "more.jsonl", Teacher(server.url), count=5).made) == 1
    server.answers = [(200, {"choices": [{"message": {"content": "I cannot do that."}}]})] * 8
    with pytest.raises(TinyslmError, match="wrote no example that can be used"):
        extend_examples([rows], tmp_path / "other.jsonl", Teacher(server.url), count=5)
    assert not (tmp_path / "other.jsonl").exists()


def test_mistakes_are_named(server: Server, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match="exists already"):
        extend_examples([rows], rows, Teacher(server.url), count=1)
    one = tmp_path / "one.jsonl"
    one.write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(TinyslmError, match="at least two examples"):
        extend_examples([one], tmp_path / "x.jsonl", Teacher(server.url), count=1)


def test_replies_are_read_as_far_as_they_can_be() -> None:
    assert list(examples_in('Sure! {"prompt": "a", "answer": "b"} and {"prompt": "c", "answer": " d "}, {"x": 1}')) == [
        ("a", "b"),
        ("c", "d"),
    ]
    assert list(
        examples_in('{"examples": [{"prompt": "a", "answer": 1}, {"prompt": "e", "answer": "f"}]} {broken')
    ) == [("e", "f")]
    assert list(examples_in("[" * 100_000 + '{"a": ' * 5000)) == []
