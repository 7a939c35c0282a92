"""`tinyslm batch` and `tinyslm watch` as commands."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from the_command import COMMAND

SHORT = ["--max-tokens", "3", "--seed", "1"]


@pytest.fixture(autouse=True)
def _rows(_new_folder) -> None:
    Path("in.csv").write_text("id,title\n1,old cat\n2,red house\n3,the river\n")


def test_a_table_becomes_a_table(tinyslm, finished: Path) -> None:
    command = ["batch", finished, "in.csv", "-o", "out.csv", "--template", "{{ title }}: ", "--choice", "a", "--choice",
               "b", "--keep", "id", *SHORT]  # fmt: skip
    ended = tinyslm(*command)
    assert (ended.code, ended.err) == (0, "")
    assert "3 rows in out.csv." in ended.out
    lines = Path("out.csv").read_text().splitlines()
    assert lines[0] == "row,id,text,finish,prompt_tokens,tokens,error"
    assert [line.split(",")[1] for line in lines[1:]] == ["1", "2", "3"]
    assert "there was nothing left to do" in tinyslm(*command).out
    summary = json.loads(tinyslm(*command, "--restart", "--json").out)
    assert (summary["rows"], summary["done_before"], summary["errors"]) == (3, 0, 0)


def test_an_input_without_rows_is_told(tinyslm, finished: Path) -> None:
    Path("empty.csv").touch()
    ended = tinyslm("batch", finished, "empty.csv", "-o", "out.csv", *SHORT)
    assert (ended.code, ended.err) == (0, "")
    assert "0 rows in out.csv: the input has none." in ended.out


def test_lines_are_answered_line_by_line(tinyslm, finished: Path) -> None:
    ended = tinyslm("batch", finished, "-", *SHORT, stdin="the cat\nthe dog\n")
    assert (ended.code, ended.err) == (0, "")
    assert [json.loads(line)["row"] for line in ended.out.splitlines()] == [1, 2]
    assert tinyslm("batch", finished, "-", "--out", "-", *SHORT, stdin="the cat\nthe dog\n").out == ended.out
    Path("t.jinja").write_text("{{ text }}!")
    rows = tinyslm("batch", finished, "-", "--template", "@t.jinja", *SHORT, stdin="the cat\n")
    assert json.loads(rows.out)["prompt_tokens"] > json.loads(ended.out.splitlines()[0])["prompt_tokens"]


def test_errors_of_rows_have_an_exit_code(tinyslm, finished: Path) -> None:
    Path("in.jsonl").write_text('{"prompt": "the"}\noops\n')
    ended = tinyslm("batch", finished, "in.jsonl", "-o", "out.jsonl", *SHORT)
    assert (ended.code, ended.err) == (4, "")
    assert "1 row has an error" in ended.out
    assert tinyslm("batch", finished, "in.jsonl", *SHORT).code == 4


def test_ctrl_c_says_how_to_resume(finished: Path) -> None:
    Path("in.txt").write_text("the cat\n" * 2000)
    command = [COMMAND, "batch", str(finished), "in.txt", "-o", "out.jsonl", "--max-tokens", "20"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal, log = Path("out.jsonl.journal"), Path("out.jsonl.journal-wal")
    while not (log.exists() and log.stat().st_size > 100_000):
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (130, "")
    assert "The same command resumes." in out
    assert journal.exists()
    assert not Path("out.jsonl").exists()


def test_a_folder_is_watched(tinyslm, finished: Path) -> None:
    Path("inbox").mkdir()
    Path("inbox/a.txt").write_text("the cat")
    Path("inbox/b.txt").write_text("")
    command = ["watch", "inbox", "--model", finished, "--out", "results", "--once", "--interval", "0", *SHORT]
    ended = tinyslm(*command)
    assert ended.code == 4
    outcomes = [json.loads(line) for line in ended.out.splitlines()]
    assert [(one["name"], one["state"]) for one in outcomes][-1] == ("b.txt", "aside")
    assert json.loads(Path("results/a.txt.json").read_text())["error"] is None
    assert (tinyslm(*command).code, tinyslm(*command).out) == (0, "")


def test_watching_ends_with_ctrl_c(finished: Path) -> None:
    Path("inbox").mkdir()
    Path("inbox/a.txt").write_text("the cat")
    command = [COMMAND, "watch", "inbox", "--model", str(finished), "--out", "results", "--interval", "0.05", *SHORT]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert json.loads(running.stdout.readline())["state"] == "done"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err.strip()) == (130, "", "Stopped.")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["batch", "MODEL", "none.csv", "-o", "o.csv"], "Could not read none.csv"),
        (["batch", "MODEL", "in.csv", "-o", "o.xlsx"], "The format of o.xlsx is unknown"),
        (["batch", "MODEL", "in.csv", "-o", "o.csv", "--column", "titel"], 'Did you mean "title"?'),
        (["batch", "MODEL", "in.csv", "-o", "o.csv", "--column", "title", "--keep", "titel"], 'Did you mean "title"?'),
        (["batch", "MODEL", "in.csv", "-o", "o.csv", "--template", "{{ titel }}"], "'titel' is undefined"),
        (["batch", "MODEL", "in.csv", "-o", "o.csv"], 'no "prompt", "messages" or "text"'),
        (["batch", "MODEL", "in.csv", "--concurrency", "0"], "--concurrency 0: must be"),
        (["watch", "none", "--model", "MODEL", "--out", "o"], "There is no folder none."),
    ],
)
def test_wrong_commands(tinyslm, finished: Path, arguments: list[str], expected: str) -> None:
    assert expected in tinyslm(*(finished if one == "MODEL" else one for one in arguments)).mistake()
    assert not [path for path in Path().iterdir() if path.name.startswith("o.")]
