"""Starting what a bundle holds, as its host would, to check it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO
from urllib.request import ProxyHandler, Request, build_opener

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.core.quantities import size
from tinyslm.deploy.bundle import Contents, Progress

PATIENCE = 300.0
"""Seconds until a program listens: loading a model, and compiling for this processor."""
KEEP_IT = "To keep the bundle as it is and look into it, leave out the check: --no-check."


def image_name(contents: Contents) -> str:
    """The model's name in the form that container programs accept."""
    return re.sub(r"[^a-z0-9]+", "-", contents.name.lower()).strip("-") or "model"


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
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**inherited, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **variables}
    with TemporaryDirectory(prefix="tinyslm-") as place, TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - a program that the bundle has just been given
            command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while not _answers(url):
                if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                    how = "does not answer" if process.returncode is None else f"ended with code {process.returncode}"
                    raise TinyslmError(
                        f"The bundle does not work: {Path(command[-1]).name} {how}: {_last(output)}", KEEP_IT
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
        problem = "The requirements of the bundle could not be installed"
        output_of([sys.executable, "-m", "venv", place], problem)
        output_of([str(python), "-m", "pip", "install", "--quiet", "-r", str(folder / "requirements.txt")], problem)
        yield python


def container_program() -> str | None:
    """Docker or Podman, whichever can run containers here."""
    for name in ("docker", "podman"):
        if program := shutil.which(name):
            found = subprocess.run([program, "info"], capture_output=True, check=False)  # noqa: S603 - the program itself
            if found.returncode == 0:
                return program
    return None


@contextmanager
def in_container(program: str, folder: Path, port: int, progress: Progress) -> Iterator[tuple[str, str]]:
    """Build the image of a folder with a `Dockerfile` and run it as user 1000 until the block ends.

    Gives the address of its port on this machine, and how large the image is, in words. Raises `TinyslmError` if it
    cannot be built, ends, or does not answer at `/ready`.
    """
    name, here = f"tinyslm-check-{os.getpid()}", free_port()
    progress("building the image", 0, 0)
    output_of([program, "build", "--tag", name, str(folder)], "The image of the bundle could not be built")
    held = output_of([program, "image", "inspect", "--format", "{{.Size}}", name], "The image cannot be inspected")
    progress("starting the container", 0, 0)
    command = [program, "run", "--rm", "--name", name, "--user", "1000", "--publish", f"127.0.0.1:{here}:{port}", name]
    try:
        with started(command, f"http://127.0.0.1:{here}/ready", {}) as seconds:
            yield f"http://127.0.0.1:{here}", f"image of {size(int(held))}, answers after {seconds:.1f} s"
    finally:
        for removal in (["rm", "--force", name], ["rmi", "--force", name]):
            subprocess.run([program, *removal], capture_output=True, check=False)  # noqa: S603 - the container program


def answered(url: str, body: bytes | None = None, key: str = "") -> tuple[bytes, Message]:
    """What an address of this machine answers, with its headers; `body` is sent as JSON. Raises `TinyslmError`."""
    sent = {"Content-Type": "application/json"} if body else {}
    request = Request(url, body, sent | ({"Authorization": f"Bearer {key}"} if key else {}))  # noqa: S310 - of this machine
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
            return answer.read(), answer.headers
    except OSError as error:
        raise TinyslmError(f"The bundle does not work: {url} answers {error}.", KEEP_IT) from None


def _answers(url: str) -> bool:
    """Whether something answers at an address of this machine."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            found: int = answer.status
            return found == 200
    except OSError:
        return False


def output_of(command: Sequence[str], problem: str) -> str:
    """What a program writes. Raises `TinyslmError` with its last words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - of the bundle's check
    if done.returncode:
        raise TinyslmError(f"{problem}: {one_line(done.stderr.strip()[-2_000:].rpartition(chr(10))[2], 300)}", KEEP_IT)
    return done.stdout.strip()


def _last(output: IO[bytes]) -> str:
    output.seek(0)
    text = output.read().decode(errors="replace").strip()
    return one_line(text[-2_000:].rpartition("\n")[2], 300)
