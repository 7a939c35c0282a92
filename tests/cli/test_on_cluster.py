"""`--on` where no cluster can be used; tests/peers/test_ray.py has one."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.parametrize("command", [("data", "prepare", ".", "--out", "shards"), ("train", ".", "--world", "2")])
@pytest.mark.parametrize(
    ("on", "says"),
    [
        ("ray://host", '"cluster", which is not installed'),
        ("ray", '"cluster", which is not installed'),
        ("ray://", "--on ray:// is not a Ray cluster"),
        ("spark://host", "--on spark://host is not a Ray cluster"),
    ],
)
def test_what_is_missing_is_named(fork_server, tmp_path: Path, command: tuple[str, ...], on: str, says: str) -> None:
    if "installed" in says and find_spec("ray"):
        pytest.skip("Ray is installed")
    (tmp_path / "a.txt").write_text("words " * 1000)
    program = str(fork_server.path / "tinyslm")
    done = subprocess.run(
        [program, *command, "--on", on], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 2), done
    assert says in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
