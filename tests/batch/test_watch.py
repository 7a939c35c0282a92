"""Watched folders: which files are answered, when, and their results."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tinyslm.batch.prompts import PromptTemplate
from tinyslm.batch.watch import Watch, files_in, watch_folder
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings

SHORT = SamplingSettings(max_tokens=4, seed=1)
KILLED = Path(__file__).with_name("killed_batch.py").read_text()


@pytest.fixture
def inbox(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def run(engine, inbox, tmp_path):
    """Watches `in` into `out`; between looks, the next of some actions happens. Gives (name, state) pairs."""

    def watched(*actions, once=False, template=None, **options):
        left = list(actions) or [lambda: None]

        def wait():
            if left:
                left.pop(0)()
                return True
            return False

        watch = Watch(inbox, tmp_path / "out", template or PromptTemplate(sampling=SHORT), **options)
        return [(one.name, one.state) for one in watch_folder(engine, watch, wait, once=once)]

    return watched


def nothing():
    """Nothing happens between two looks."""


def result(tmp_path, name):
    return json.loads((tmp_path / "out" / name).read_text())


def test_files_that_are_answered(inbox, tmp_path):
    for name in ("a.txt", "b.md", ".hidden", "c.part", "d.TMP", "e~"):
        (inbox / name).write_text("x")
    (inbox / "folder").mkdir()
    os.mkfifo(inbox / "pipe")
    (tmp_path / "secret.txt").write_text("x")
    (inbox / "out-of-here.txt").symlink_to(tmp_path / "secret.txt")
    (inbox / "in-here.txt").symlink_to(inbox / "a.txt")
    (inbox / "nowhere.txt").symlink_to(tmp_path / "none")
    assert list(files_in(inbox)) == ["a.txt", "b.md", "in-here.txt"]
    assert list(files_in(inbox, ("*.md", "z*"))) == ["b.md"]


def test_new_files_become_results(run, inbox, tmp_path, engine):
    (inbox / "a.txt").write_text("Once")
    assert run(nothing, lambda: (inbox / "b.txt").write_text("Twice"), nothing, nothing) == [
        ("a.txt", "done"),
        ("b.txt", "done"),
    ]
    alone = engine.complete("Once", SHORT)[0]
    found = result(tmp_path, "a.txt.json")
    assert (found["file"], found["text"], found["error"]) == ("a.txt", alone.text, None)
    assert (inbox / "a.txt").read_text() == "Once"


def test_a_file_that_is_being_written_has_to_wait(run, inbox):
    def grow():
        with (inbox / "a.txt").open("a") as file:
            file.write("more ")

    grow()
    assert run(grow, grow, grow) == []
    assert run(grow, grow, nothing) == [("a.txt", "done")]


def test_nothing_is_answered_twice(run, inbox, tmp_path):
    (inbox / "a.txt").write_text("Once")
    assert run(once=True) == [("a.txt", "done")]
    before = (tmp_path / "out/a.txt.json").stat().st_mtime_ns
    assert run(once=True) == []
    os.utime(inbox / "a.txt", (1, 1))
    assert run(once=True) == []  # touched, but the same
    assert (tmp_path / "out/a.txt.json").stat().st_mtime_ns == before
    (inbox / "a.txt").write_text("Else")
    assert run(once=True) == [("a.txt", "done")]


def test_each_line_can_be_a_request(run, inbox, tmp_path):
    (inbox / "a.log").write_text("one\n\ntwo\n")
    (inbox / "b.csv").write_text("text,n\nthree,3\nfour,4,5\n")
    template = PromptTemplate(
        template="{{ file }} {{ text }}", constraint=OutputConstraint("choice", ["yes", "no"]), sampling=SHORT
    )
    assert run(once=True, each="line", template=template) == [("a.log", "done"), ("b.csv", "done")]
    lines = [json.loads(line) for line in (tmp_path / "out/a.log.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [1, 2]
    assert all(line["text"] in ("yes", "no") for line in lines)
    lines = [json.loads(line) for line in (tmp_path / "out/b.csv.jsonl").read_text().splitlines()]
    assert [line["error"] for line in lines] == [
        None,
        "the row in line 3 cannot be read: it has more cells than the header",
    ]


def test_failed_files_are_tried_again_and_set_aside(run, inbox, tmp_path):
    (inbox / "a.txt").write_bytes(b"caf\xe9")
    (inbox / "b.txt").write_text("fine")
    (inbox / "c.csv").write_text("a,a\n1,2\n")
    assert run(*[nothing] * 5, tries=2) == [
        ("a.txt", "failed"),
        ("b.txt", "done"),
        ("c.csv", "done"),
        ("a.txt", "aside"),
    ]
    note = result(tmp_path, "failed/a.txt.json")
    assert (note["file"], note["tries"]) == ("a.txt", 2)
    assert "a.txt is not UTF-8 text" in note["error"]
    assert run(once=True, tries=2) == []
    (inbox / "a.txt").write_text("mended")
    assert run(once=True, tries=2) == [("a.txt", "done")]
    assert not (tmp_path / "out/failed/a.txt.json").exists()


def test_once_makes_all_attempts(run, inbox):
    (inbox / "a.txt").write_bytes(b"\xff\xfe")  # a byte order mark without a text
    assert run(once=True, tries=3) == [("a.txt", "failed"), ("a.txt", "failed"), ("a.txt", "aside")]


def test_an_invalid_table_does_not_stop_the_others(run, inbox):
    (inbox / "a.csv").write_text("a,a\n1,2\n")
    (inbox / "b.parquet").write_bytes(b"no")
    (inbox / "c.csv").write_text("text\nfine\n")
    (inbox / "d.csv").write_text("other\nfine\n")
    assert run(once=True, each="line", tries=1) == [
        ("a.csv", "aside"),
        ("b.parquet", "aside"),
        ("c.csv", "done"),
        ("d.csv", "done"),
    ]


def test_another_attempt_has_another_seed():
    template = PromptTemplate(sampling=SHORT)
    seeds = {template.for_attempt(attempt).sampling.seed for attempt in range(4)}
    assert (len(seeds), template.for_attempt(0)) == (4, template)
    assert PromptTemplate().for_attempt(2) == PromptTemplate()


def test_a_file_that_changes_meanwhile_is_answered_again(run, inbox, tmp_path, monkeypatch):
    from tinyslm.batch import watch

    (inbox / "a.txt").write_text("Once")
    settle = watch._settle
    changes = ["Twice"]

    def changed_before(*arguments):
        if changes:
            (inbox / "a.txt").write_text(changes.pop())
        return settle(*arguments)

    monkeypatch.setattr(watch, "_settle", changed_before)
    assert run(nothing, nothing, nothing) == [("a.txt", "changed"), ("a.txt", "done")]
    assert run(once=True) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".watch.journal", "a.txt.json", "failed"}


def test_a_second_watch_on_the_same_output_is_rejected(run, inbox, tmp_path, monkeypatch):
    """It comes while a result of the first is written, and leaves that file alone."""
    from tinyslm.batch import watch

    (inbox / "a.txt").write_text("Once")
    write, temporary, seen = watch.write_lines, tmp_path / "out" / ".a.txt.json.tmp", []

    def written(*arguments):
        write(*arguments)
        with pytest.raises(TinyslmError, match=rf"Process {os.getpid()} is already writing .*out") as caught:
            run(once=True)
        seen.append((caught.value.remedy, temporary.exists()))

    monkeypatch.setattr(watch, "write_lines", written)
    assert run(once=True) == [("a.txt", "done")]
    assert seen == [("Wait until it has ended, or stop it, or write to another place.", True)]
    assert result(tmp_path, "a.txt.json")["error"] is None


def test_partial_results_of_a_killed_watch_are_removed(run, inbox, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".a.txt.json.tmp").write_text("half")
    assert run(once=True) == []
    assert not (tmp_path / "out" / ".a.txt.json.tmp").exists()


def test_other_settings_need_another_folder(run, inbox):
    (inbox / "a.txt").write_text("Once")
    run(once=True)
    with pytest.raises(TinyslmError, match="holds results of other settings: system"):
        run(once=True, template=PromptTemplate(sampling=SHORT, system="Be short."))
    with pytest.raises(TinyslmError, match="each"):
        run(once=True, each="line")


def test_folders_that_cannot_be_watched(inbox, tmp_path):
    with pytest.raises(TinyslmError, match="There is no folder"):
        Watch(tmp_path / "none", tmp_path / "out", PromptTemplate())
    with pytest.raises(TinyslmError, match="Results cannot go to the folder that is watched"):
        Watch(inbox, inbox / ".." / "in", PromptTemplate())
    with pytest.raises(TinyslmError, match='each "word"'):
        Watch(inbox, tmp_path / "out", PromptTemplate(), each="word")


def test_resumes_after_a_kill_at_any_moment(folder, inbox, tmp_path, fork_server):
    """SIGKILL in the middle of noting what became of a file."""
    for number in range(6):
        (inbox / f"{number}.txt").write_text(f"file {number}")
    command = ["watch", inbox, "--model", folder, "--out", tmp_path / "out", "--once", "--interval", "0"]
    command += ["--max-tokens", "3", "--seed", "1"]
    printed = ""
    for dies_at in (3, 100):
        killed = [fork_server.python, "-c", KILLED, str(dies_at), *map(str, command)]
        ended = subprocess.run(killed, capture_output=True, text=True, check=False, timeout=100)
        assert ended.returncode == (-9 if dies_at == 3 else 0), ended.stderr
        printed += ended.stdout
    assert sorted(json.loads(line)["name"] for line in printed.splitlines()) == [f"{n}.txt" for n in range(6)]
    assert all(result(tmp_path, f"{number}.txt.json")["error"] is None for number in range(6))
