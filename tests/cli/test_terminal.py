"""What a person sees in a real terminal, and what a pipe is given."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from the_command import COMMAND, TINY

from sentences import sentences

ESCAPE = "\x1b"


def in_a_terminal(*arguments: object, program: object = COMMAND) -> tuple[int, str]:
    """A command in a terminal of 80 columns: its exit code, and all that it wrote there."""
    ours, its = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        [program, *map(str, arguments)], stdin=its, stdout=its, stderr=its, env=environment
    ) as process:
        os.close(its)
        written = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the terminal has no user any more
                break
            if not block:
                break
            written += block
        os.close(ours)
        return process.wait(60), written.decode()


def without_escapes(written: str) -> str:
    """What was written, without the codes that move and colour."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


def test_a_run_has_a_progress_bar(texts: Path) -> None:
    code, written = in_a_terminal("train", texts, "--out", "run", *TINY, "--train.steps", "30")
    seen = without_escapes(written)
    assert code == 0, seen
    assert f"{ESCAPE}[" in written
    assert re.search(r"training +[━╸╺]+ +100%", seen)
    assert re.search(r"step 30 of 30 · loss \d\.\d+ · \d\.\d+ bits per byte · [\d,]+ tokens/s", seen)
    assert "step 3: validation loss" in seen
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h")  # the cursor is there again


def test_a_mistake_is_coloured(forked: Path) -> None:
    code, written = in_a_terminal("train", "nowhere", "--out", "run", program=forked)
    assert code == 2
    assert f"{ESCAPE}[1;31merror:{ESCAPE}[0m nowhere does not exist." in written


def test_text_does_not_steer_the_terminal(forked: Path, finished: Path) -> None:
    evil = f"{ESCAPE}]0;title\x07{ESCAPE}[31mred"
    for samples in (1, 2):
        given = ("--prompt", evil, "--max-tokens", "2", "-n", samples)
        code, written = in_a_terminal("generate", finished, *given, program=forked)
        assert code == 0
        assert ESCAPE not in written
        assert r"\x1b]0;title\x07\x1b[31mred" in written


def test_a_name_does_not_steer_the_terminal(forked: Path) -> None:
    _, written = in_a_terminal("show", f"{ESCAPE}[31mred", program=forked)
    assert r"\x1b[31mred does not exist." in written


def test_a_pipe_gets_the_text_as_it_is(program, finished: Path) -> None:
    ended = program("generate", finished, "--prompt", "a\tb", "--max-tokens", "1", "--seed", "1")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("a\tb")


@pytest.fixture
def forked(fork_server) -> Path:
    """The program, as the fork server starts it."""
    return fork_server.path / "tinyslm"


@pytest.mark.parametrize("command", [["config"], ["generate", "MODEL", "--max-tokens", "300"], ["show", "MODEL"]])
def test_a_reader_who_leaves_is_no_error(forked: Path, finished: Path, command: list[str]) -> None:
    given = [forked, *(str(finished) if word == "MODEL" else word for word in command)]
    with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


def test_a_reader_who_leaves_leaves_nothing_half_made() -> None:
    Path("text.txt").write_text(sentences(100))
    reading, writing = os.pipe()
    os.close(reading)
    command = [COMMAND, "train", "text.txt", "--out", "run", *TINY]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert not Path("run").exists()
