"""`tinyslm data check-grader`: what it finds, and its exit code."""

import json
from pathlib import Path


def test_a_grader_is_tried(tinyslm, tmp_path: Path) -> None:
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(10, 16)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "grader.py").write_text(
        "import os\n"
        "def fair(example, answer):\n    return answer == example['answer']\n"
        "def lengthy(example, answer):\n    return min(1, len(answer) / 500)\n"
        "def text(example, answer):\n    return 'good'\n"
        "def leaves(example, answer):\n    os._exit(3)\n"
    )
    fine = tinyslm("data", "check-grader", "grader.py:fair", "rows.jsonl")
    assert (fine.code, "No problems found." in fine.out) == (0, True)
    for name, words in (
        ("lengthy", "Answers that repeat a word score 1.00"),
        ("text", "returned 'good'; a score is a number from 0 to 1"),
        ("leaves", "it ended the process"),
    ):
        done = tinyslm("data", "check-grader", f"grader.py:{name}", "rows.jsonl", "--limit", "2", "--json")
        assert done.code == 1
        assert any(words in problem["text"] for problem in json.loads(done.out)["problems"]), done.out
    assert "nowhere.py does not exist" in tinyslm("data", "check-grader", "nowhere.py:grade", "rows.jsonl").mistake()
    assert "No rows were given" in tinyslm("data", "check-grader", "exact").mistake()
