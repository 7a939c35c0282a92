"""One writer at a time, whatever becomes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyslm.core import locks
from tinyslm.core.errors import TinyslmError
from tinyslm.core.locks import Lock, new_output, only_writer, waiting_lock

HOLDER = """
import sys
from pathlib import Path
from tinyslm.core.locks import only_writer
with only_writer(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_by_name_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(TinyslmError, match=rf"Process {holder.pid} is already writing .*out") as caught,
            only_writer(out),
        ):
            pytest.fail("two hold it")
        assert "\n" not in caught.value.remedy
        assert (out.parent / ".out.lock").exists()
        holder.kill()
    assert (out.parent / ".out.lock").exists()  # nobody was left to remove it
    with only_writer(out):
        out.write_text("x")
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a" / "b" / ".lock", tmp_path / "a")
    with lock, lock:  # as often as its holder likes
        assert lock.file.exists()
        with pytest.raises(TinyslmError, match=rf"Process {os.getpid()} is already writing"):
            Lock(lock.file, lock.target).acquire()
    assert list(tmp_path.iterdir()) == []
    lock.acquire()
    del lock
    with Lock(tmp_path / "a" / "b" / ".lock", tmp_path / "a"):  # nobody can release it any more
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_a_lock_file_that_its_holder_removes_meanwhile_is_made_anew(tmp_path: Path, monkeypatch) -> None:
    lock, claim = Lock(tmp_path / ".lock", tmp_path), locks.claim

    def late(handle: int, target: Path) -> None:
        claim(handle, target)
        if not removed:
            removed.append(lock.file.unlink())

    removed: list[None] = []
    monkeypatch.setattr(locks, "claim", late)
    with lock:
        monkeypatch.undo()
        with pytest.raises(TinyslmError, match="is already writing"):
            Lock(lock.file, tmp_path).acquire()


def test_the_current_folder_can_be_locked(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with only_writer(Path()):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".here.lock", "here"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_where_the_system_does_not_name_the_holder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(locks, "_LOCKS", tmp_path / "none")
    with only_writer(tmp_path / "out"), pytest.raises(TinyslmError, match="Another process is already writing"):
        Lock(tmp_path / ".out.lock", tmp_path / "out").acquire()


def test_a_new_output_is_refused_before_and_after_waiting(tmp_path: Path, monkeypatch) -> None:
    with new_output(tmp_path / "out"):
        (tmp_path / "out").mkdir()
    with pytest.raises(TinyslmError, match="out exists already"), new_output(tmp_path / "out"):
        pytest.fail("it is written over")
    (tmp_path / "file").touch()
    with pytest.raises(TinyslmError, match="Not a directory"), new_output(tmp_path / "file" / "out"):
        pytest.fail("there is no such place")


def test_a_lock_that_is_waited_for(tmp_path: Path) -> None:
    waiter = "import sys, pathlib; from tinyslm.core.locks import waiting_lock\nprint('here', flush=True)\n"
    waiter += "with waiting_lock(pathlib.Path(sys.argv[1])):\n print(pathlib.Path(sys.argv[2]).read_text())"
    written, lock = tmp_path / "written", tmp_path / "lock"
    with waiting_lock(lock):
        process = subprocess.Popen(
            [sys.executable, "-c", waiter, str(lock), str(written)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        with pytest.raises(subprocess.TimeoutExpired):  # it would end at once, with an error: the file is not there
            process.wait(0.5)
        written.write_text("found")
    assert process.communicate(timeout=60)[0] == "found\n"
    with pytest.raises(TinyslmError, match="Could not write"), waiting_lock(tmp_path / "none" / "lock"):
        pytest.fail("there is no such folder")
