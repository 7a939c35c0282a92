"""Starting what a bundle holds, as its host would, to check it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.deploy.bundle import Progress

PATIENCE = 300.0
"""Seconds until a program listens: loading a model, and compiling for this processor."""
_KEEP_IT = "To keep the bundle as it is and look into it, leave out the check: --no-check."


def free_port() -> int:
    """A port on this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(command: Sequence[str], url: str, variables: Mapping[str, str]) -> Iterator[float]:
    """Run a program until the block ends; gives the seconds that it took to answer at `url`.

    It runs outside the bundle's folder, and writes no bytecode there. Raises `TinyslmError` with its last words if it
    ends, or does not answer in time.
    """
    begun = time.monotonic()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **variables}
    environment.pop("PYTHONPATH", None)
    with TemporaryDirectory(prefix="tinyslm-") as place, TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - a program that the bundle has just been given
            command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while not _answers(url):
                if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                    how = "does not answer" if process.returncode is None else f"ended with code {process.returncode}"
                    raise TinyslmError(
                        f"The bundle does not work: {Path(command[-1]).name} {how}: {_last(output)}", _KEEP_IT
                    )
                time.sleep(0.2)
            yield time.monotonic() - begun
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def environment(folder: Path, *, fresh: bool, progress: Progress) -> Iterator[Path]:
    """The Python for a bundle's program: this one, or that of a new environment with the bundle's requirements."""
    if not fresh:
        yield Path(sys.executable)
        return
    with TemporaryDirectory(prefix="tinyslm-") as place:
        progress("installing requirements.txt", 0, 0)
        python = Path(place) / "bin" / "python"
        for command in (
            [sys.executable, "-m", "venv", place],
            [str(python), "-m", "pip", "install", "--quiet", "-r", str(folder / "requirements.txt")],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - pip and venv
            if done.returncode:
                said = one_line(done.stderr.strip().rpartition("\n")[2], 300)
                raise TinyslmError(f"The requirements of the bundle could not be installed: {said}", _KEEP_IT)
        yield python


def _answers(url: str) -> bool:
    """Whether something answers at an address of this machine."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            found: int = answer.status
            return found == 200
    except (URLError, OSError):
        return False


def _last(output: IO[bytes]) -> str:
    output.seek(0)
    text = output.read().decode(errors="replace").strip()
    return one_line(text[-2_000:].rpartition("\n")[2], 300)
