"""A server in a process of its own, for benchmarks that ask it over HTTP."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import TINYSLM


@contextmanager
def local_server(model: Path, log: Path, *options: str) -> Iterator[tuple[str, int]]:
    """`tinyslm serve MODEL` while the block runs; gives its URL and process id. Its log goes to a file."""
    command = [*TINYSLM, "serve", str(model), "--port", "0", *options]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            assert found, f"the server did not start: {log.read_text()}"
            yield found[0], process.pid
        finally:
            process.terminate()
            code = process.wait(60)
            process.stdout.close()
    assert code == 0, f"the server ended with code {code}: {log.read_text()[-2000:]}"
