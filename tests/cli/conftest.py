"""The command line in this process (`tinyslm`) and in one of its own (`program`), in a new folder each."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from the_command import COMMAND, TINY, Ended

from fork_server import ForkServer
from sentences import sentences
from tinyslm.cli import main


@pytest.fixture(autouse=True)
def _new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tinyslm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command here: `tinyslm("show", folder)`."""

    def run(*arguments: object, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["tinyslm", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    return run


@pytest.fixture
def machine_looked_at_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans made here measure this machine by two tiny models, for a moment, and the text in fewer steps."""
    from brief_costs import brief_costs
    from tinyslm.planning import planner, probe

    monkeypatch.setattr(planner, "measure_costs", brief_costs)
    monkeypatch.setattr(probe, "STEPS", 20)


@pytest.fixture
def program(fork_server: ForkServer):
    """Runs a command in a process of its own, as a user does: forked, or started if `preexec_fn` is given."""

    def run(*arguments: object, **options: object) -> Ended:
        command = COMMAND if "preexec_fn" in options else fork_server.path / "tinyslm"
        ended = subprocess.run(
            [command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=100, **options
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 text files, 25 kB in all."""
    folder = tmp_path_factory.mktemp("cli") / "texts"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(sentences(15, seed=number))
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, texts: Path, fork_server: ForkServer) -> Path:
    """The run folder of a finished run; not to be written to."""
    out = tmp_path_factory.mktemp("finished") / "run"
    command = fork_server.path / "tinyslm"
    subprocess.run([command, "train", str(texts), "--out", str(out), *TINY], check=True, capture_output=True)
    return out
