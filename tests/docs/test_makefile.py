"""The Makefile: where PyTorch comes from."""

import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).parents[2]
HAS_DRIVER = bool(which("nvidia-smi")) or Path("/proc/driver/nvidia").exists()


@pytest.mark.skipif(
    bool(which("nvidia-smi")) or Path("/proc/driver/nvidia").exists(), reason="there is an NVIDIA driver"
)
@pytest.mark.parametrize(
    ("configured", "asked"),
    [("global.timeout='60'", True), ("global.index-url='https://example.org/simple'", False),
     (":env:.find-links='wheels'", False), ("global.constraint='mine.txt'", False), ("", True)],
)  # fmt: skip
def test_the_cpu_build_is_taken_unless_pip_is_configured(configured: str, asked: bool, tmp_path: Path) -> None:
    venv, log = tmp_path / "venv", tmp_path / "log"
    python = venv / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ "$3" = config ] && echo "{configured}" || true\n')
    python.chmod(0o755)
    (venv / ".made").touch()
    command = ["make", "-C", str(ROOT), f"VENV={venv}", f"{venv}/.torch"]
    # Without the folders that may hold nvidia-smi.
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": "/usr/bin:/bin", "CI": ""})
    installs = [line for line in log.read_text().splitlines() if " install " in line]
    assert bool(installs) == asked
    assert all("--index-url https://download.pytorch.org/whl/cpu torch" in line for line in installs)
    assert (venv / ".torch").exists()
