"""`tinyslm data extend`: what it prints."""

import json

from scripted_server import scripted_server


def test_examples_are_written(tinyslm, tmp_path) -> None:
    given = [{"question": "1 + 1?", "answer": "2"}, {"question": "How much is 3 and 4?", "answer": "7"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    text = json.dumps({"examples": [{"prompt": "Halve 8", "answer": "4"}, {"prompt": "1 + 1?", "answer": "2"}]})
    with scripted_server() as server:
        server.answers = [(200, {"choices": [{"message": {"content": text}}]})]
        done = tinyslm("data", "extend", "rows.jsonl", "--teacher", server.url, "--count", "1", "--out", "more.jsonl")
    assert done.code == 0, done
    assert "Dropped: 1 (like an earlier one)" in done.out
    assert "Written: 1 example\n" in done.out
    assert tinyslm("data", "lint", "more.jsonl").code == 0
    refused = tinyslm("data", "extend", "rows.jsonl", "--teacher", "nowhere", "--out", "other.jsonl").mistake()
    assert "nowhere is not the address of a server." in refused
    assert "No examples were given" in tinyslm("data", "extend", "--teacher", "x", "--out", "y").mistake()
