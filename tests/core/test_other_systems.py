"""Systems without the modules of POSIX, such as Windows: importing works, and what needs them says so."""

import subprocess
import sys

SCRIPT = """
import asyncio, multiprocessing.connection, psutil, subprocess, sys, tempfile, torch
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty"):
    sys.modules[name] = None
import tinyslm
from tinyslm.cli import commands
for name in tinyslm.__all__:
    getattr(tinyslm, name)
from tinyslm.hardware.compiling import NotAvailable, build
from tinyslm.inference.native.build import SOURCE, available
from tinyslm.core.worker import Limits, Worker
print(available())
try:
    Worker("tinyslm.evaluation.grading:answer", Limits(1, 1 << 30)).ask({})
except tinyslm.TinyslmError as error:
    print(error.remedy)
"""


def test_without_posix_modules_everything_imports_and_the_rest_is_told() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert not ended.returncode, ended.stderr
    assert ended.stdout.splitlines() == [
        "on this system, nothing is compiled",
        "Use Linux, macOS, or Linux inside Windows (WSL 2).",
    ]
