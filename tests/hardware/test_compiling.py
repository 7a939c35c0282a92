"""Compiling C++: where, when, and why not."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from tinyslm.hardware import compiling
from tinyslm.hardware.compiling import NotAvailable, build, cache_folder, compiler


@pytest.fixture
def source(tmp_path):
    """A source that takes little time, in a folder of its own."""
    folder = tmp_path / "sources"
    folder.mkdir()
    path = folder / "answer.cpp"
    path.write_text("int answer() { return 42; }\n")
    return path


def test_it_is_compiled_once(tmp_path, source, monkeypatch):
    first = build(source, ("-O0",), tmp_path / "cache")
    changed = first.stat().st_mtime_ns
    monkeypatch.setattr(compiling, "_compile", None)
    assert build(source, ("-O0",), tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == changed
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_changed_source_is_compiled_anew(tmp_path, source):
    first = build(source, (), tmp_path / "cache")
    (source.parent / "more.h").write_text("")
    assert build(source, (), tmp_path / "cache") != first


def test_processes_that_compile_at_once_get_one_library(tmp_path, source):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        paths = pool.starmap(build, [(source, (), tmp_path / "cache")] * 3)
    assert len(set(paths)) == 1
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {paths[0].with_suffix(".lock").name, paths[0].name}


def test_a_folder_that_others_can_write_to_is_refused(tmp_path, source):
    tmp_path.chmod(0o777)
    with pytest.raises(NotAvailable, match="write"):
        build(source, (), tmp_path)


def test_a_library_that_others_can_write_to_is_made_anew(tmp_path, source):
    path = build(source, (), tmp_path / "cache")
    path.write_bytes(b"")
    path.chmod(0o777)
    assert build(source, (), tmp_path / "cache") == path
    assert path.stat().st_size > 0


def test_without_a_compiler_the_reason_is_told(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(NotAvailable, match="no C\\+\\+ compiler no-such-compiler"):
        compiler()


def test_what_a_missing_compiler_costs_is_told_once(monkeypatch, tmp_path, source, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiling._warn_once.cache_clear()
    for _ in range(2):
        with pytest.raises(NotAvailable, match="no-such-compiler"):
            build(source, (), tmp_path / "cache")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "There is no C++ compiler no-such-compiler" in said
    assert "apt install g++" in said


def test_a_failing_compiler_is_told_with_its_message(tmp_path, source):
    with pytest.raises(NotAvailable, match="no-such-option"):
        build(source, ("--no-such-option",), tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_the_cache_is_where_the_system_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tinyslm" / "native"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder().is_absolute()


def test_without_a_home_folder_the_cache_is_a_temporary_one(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").touch()

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    with monkeypatch.context() as patch:
        patch.delenv("XDG_CACHE_HOME", raising=False)
        patch.setattr(Path, "home", no_home)
        assert [cache_folder(), cache_folder()] == [tmp_path / f"tinyslm-{os.getuid()}" / "native"] * 2
        assert capsys.readouterr().err.count("this user has no home folder") == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() == tmp_path / f"tinyslm-{os.getuid()}" / "native"
    assert "Not a directory" in capsys.readouterr().err
