"""`tinyslm show` with curves."""

import json
from pathlib import Path


def test_a_run_beside_another_program(tinyslm, finished: Path) -> None:
    Path("other.csv").write_text("step,loss\n1,6.5\n2,6.25\n5,6\n")
    ended = tinyslm("show", finished, "other.csv", "--out", "curves.html")
    assert (ended.code, ended.err) == (0, "")
    assert "run: training loss" in ended.out
    rows = {line.split("  ")[0]: line.split() for line in ended.out.splitlines()}
    assert rows["other.csv"][1:] == ["3", "1", "5", "6.0000", "6.0000", "5"]
    assert rows["run"][1] == "5"
    assert "same tokenizer" in ended.out
    assert "other.csv" in Path("curves.html").read_text()


def test_one_file(tinyslm) -> None:
    Path("log.jsonl").write_text('{"n": 1, "nll": 3}\n{"n": 2, "nll": 2}\n')
    assert "--step COLUMN --loss COLUMN" in tinyslm("show", "log.jsonl").mistake()
    told = json.loads(tinyslm("show", "log.jsonl", "--step", "n", "--loss", "nll", "--json").out)
    assert told["curves"][0]["losses"] == [3, 2]
    assert "nowhere does not exist." in tinyslm("show", "nowhere").mistake()
    assert "Could not read nowhere" in tinyslm("show", "log.jsonl", "nowhere").mistake()
