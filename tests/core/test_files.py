"""Files and folders are whole or absent, whatever happens; manifests tell whether they still are what was written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinyslm.core import files
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import (
    MANIFEST,
    atomic_folder,
    read_manifest,
    sha256_file,
    sha256_json,
    write_atomic,
    write_json,
    write_manifest,
)
from tinyslm.core.json_files import read_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_atomic(file, "old ☃")
    assert file.read_bytes() == "old ☃".encode()
    write_atomic(file, b"\x00new")
    assert file.read_bytes() == b"\x00new"
    write_json(tmp_path / "b.json", {"é": [1, None]})
    assert read_json(tmp_path / "b.json") == {"é": [1, None]}
    assert names(tmp_path) == ["a.txt", "b.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    write_atomic(file, "old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TinyslmError, match="No space left on device") as caught:
        write_atomic(file, "new")
    assert "Free some space" in caught.value.remedy
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_place_below_a_file_is_told_before_and_while_writing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for attempt in (files.check_place, lambda path: write_atomic(path, "x")):
        with pytest.raises(TinyslmError, match=r"Could not write .*Not a directory") as caught:
            attempt(tmp_path / "file" / "a")
        assert "give another path" in caught.value.remedy
    files.check_place(tmp_path / "new" / "a")
    assert names(tmp_path) == ["file"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tinyslm.core import files
files.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with files.atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "a.txt").write_text("new")
    (folder / "b.txt").write_text("new")
"""


@pytest.mark.parametrize("moment", ["sync_file", "replace_folder"])
def test_a_writer_that_is_killed_leaves_the_old_folder(tmp_path: Path, moment: str) -> None:
    target = tmp_path / "target"
    with atomic_folder(target) as folder:
        (folder / "a.txt").write_text("old")
    ended = subprocess.run([sys.executable, "-c", KILLED.format(moment=moment), str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert names(target) == ["a.txt"]
    assert (target / "a.txt").read_text() == "old"
    assert len(names(tmp_path)) == 2  # what the killed process left

    with atomic_folder(target) as folder:
        (folder / "c.txt").write_text("newest")
    assert names(target) == ["c.txt"]
    assert names(tmp_path) == ["target"]  # the next writer removed it


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".target.{os.getppid()}.tmp"
    other.mkdir()
    with atomic_folder(tmp_path / "target") as folder:
        (folder / "a").touch()
    assert other.is_dir()


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "deep" / "er" / "target") as folder:
        (folder / "a").write_text(str(1 / 0))
    assert names(tmp_path) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "there" / "target"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["there"]  # it was there before


def test_a_disk_error_in_a_block_is_told_and_a_broken_pipe_is_none(tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match=r"Could not write .*target: No space"), atomic_folder(tmp_path / "target"):
        raise OSError(28, "No space left on device")
    with pytest.raises(BrokenPipeError), atomic_folder(tmp_path / "target"):
        raise BrokenPipeError
    assert names(tmp_path) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two files, with its manifest."""
    made = tmp_path / "folder"
    (made / "deep").mkdir(parents=True)
    (made / "a.bin").write_bytes(b"12345")
    (made / "deep" / "b.bin").write_bytes(b"67890")
    write_manifest(made, {"kind": "some"})
    return made


def test_a_manifest_names_every_file(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest["kind"] == "some"
    assert set(manifest["files"]) == {"a.bin", "deep/b.bin"}
    assert manifest["files"]["a.bin"] == {"bytes": 5, "sha256": sha256_file(folder / "a.bin")}


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"1234", "b.bin is damaged: it has 4 bytes instead of 5"), (b"6789X", "checksum"), (None, "b.bin is missing")],
)
def test_a_manifest_tells_which_file_is_damaged(folder: Path, content: bytes | None, problem: str) -> None:
    file = folder / "deep" / "b.bin"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(TinyslmError, match=problem) as caught:
        read_manifest(folder)
    assert "deep/b.bin" in caught.value.remedy
    assert read_manifest(folder, verify=False)["kind"] == "some"


def test_a_manifest_may_not_point_outside(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"x")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["../secret"] = {"bytes": 1, "sha256": sha256_file(folder.parent / "secret")}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(TinyslmError, match="names a file outside its folder"):
        read_manifest(folder)


def test_equal_values_have_equal_hashes() -> None:
    assert sha256_json({"a": 1, "b": [2, 3]}) == sha256_json({"b": [2, 3], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
