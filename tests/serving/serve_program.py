"""`tinyslm serve` as a program of its own, and curl."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("tinyslm"))


@contextmanager
def program(*arguments: object, command: str = COMMAND) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command, and the URL that it says it listens at."""
    process = subprocess.Popen(
        [command, "serve", *map(str, arguments), "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        line = process.stdout.readline()
        if line and "--log-json" in arguments:
            line = json.loads(line)["message"]
        found = re.search(r"chat at (http://127\.0\.0\.1:\d+)/, programs at \1/v1$", line.strip())
        assert found, f"{line}{process.stderr.read() if process.poll() is not None else ''}"
        yield found[1], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", "-N", *arguments], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
