"""A place that cannot be written: two lines from every verb, and at once, before anything long is begun."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from the_command import TINY


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that cannot be written."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this user cannot mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_every_verb_that_writes_says_so(tinyslm, texts: Path, finished: Path, read_only: Path) -> None:
    Path("rows.txt").write_text("a\nb\n")
    Path("inbox").mkdir()
    for command in (
        ["train", texts, "--out", read_only / "run", *TINY],
        ["data", "prepare", texts, "--out", read_only / "shards"],
        ["tokenizer", "train", texts, "--out", read_only / "tokenizer"],
        ["quantize", finished, "--out", read_only / "int4"],
        ["export", finished, "--to", "hf", "--out", read_only / "exports"],
        ["pull", finished, "--out", read_only / "model"],
        ["batch", finished, "rows.txt", "--out", read_only / "rows.jsonl"],
        ["watch", "inbox", "--model", finished, "--out", read_only / "results", "--once"],
        ["look", finished, "--text", "Once", "--out", read_only / "look.html"],
        ["serve", finished, "--make-key", "me", "--keys", read_only / "keys"],
    ):
        said = tinyslm(*command).mistake()
        assert "Could not write" in said, command
        assert "Read-only file system" in said, command


def test_a_cache_that_cannot_be_written_is_no_mistake(program, finished: Path, read_only: Path, tmp_path: Path) -> None:
    """In a process of its own, which has not loaded any kernels yet."""
    environment = os.environ | {"XDG_CACHE_HOME": str(read_only), "TMPDIR": str(tmp_path)}
    ended = program("generate", finished, "--prompt", "Once", "--max-tokens", "2", env=environment)
    assert ended.code == 0
    assert ended.err.count("No cache folder can be used") == 1
