"""Check a learner's file, in a separate process with limits on time, memory and output.

The worker imports torch once. Each file is checked in a fork of the worker, so that its changes do not persist.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.core.worker import Limits, Worker, WorkerError

SECONDS = 30
"""Processor time for all checks of a file. The wall-clock limit is `PATIENCE` times that, for busy machines."""
PATIENCE = 4
MOST_BYTES = 1 << 20  # of a learner's file
_LIMITS = Limits(cpu_seconds=60, memory=16 << 30, wait_seconds=SECONDS * PATIENCE + 60, file_size=1 << 28)


@dataclass(frozen=True)
class CheckResult:
    """description: what is checked. message: what is wrong, or ""."""

    description: str
    passed: bool
    message: str = ""


@dataclass(frozen=True)
class ExerciseResult:
    """The results of all checks. problem: why the file could not be loaded, or ""; if so, there are no checks."""

    title: str
    problem: str
    checks: list[CheckResult]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return not self.problem and all(check.passed for check in self.checks)


def check_exercise(number: int, file: Path, *, seconds: int = SECONDS) -> ExerciseResult:
    """Check a learner's file. seconds: processor time that it may take.

    Raises `TinyslmError` if there is no such exercise or file.
    """
    if file.is_dir() or (file.is_file() and file.suffix != ".py"):
        raise TinyslmError(f"{file} is not a Python file.", "Give the file with your solution, which ends in .py.")
    if not file.is_file():
        from tinyslm.course.exercises import EXERCISES

        if not 1 <= number <= len([*EXERCISES]):
            raise no_exercise(number, len([*EXERCISES]))
        raise TinyslmError(f"{file} does not exist.", f"Write the starting file first: tinyslm learn start {number}")
    if file.stat().st_size > MOST_BYTES:
        raise TinyslmError(f"{file} is too long to be a solution.", "Give a Python file.")
    try:
        reply = _worker.ask({"number": number, "path": str(file.resolve()), "seconds": seconds})
    except WorkerError as error:
        raise TinyslmError(f"The checks were not made: {error}.", "Try again.") from None
    if "unknown" in reply:
        raise no_exercise(number, reply["unknown"])
    return ExerciseResult(reply["title"], reply["problem"], [CheckResult(**check) for check in reply["checks"]])


def file_of(number: int) -> str:
    """The name that an exercise's file has unless the learner chooses another one."""
    return f"exercise_{number}.py"


def no_exercise(number: int, most: int) -> TinyslmError:
    """The error for a number that no exercise has."""
    return TinyslmError(f"There is no exercise {number}.", f"Give a number from 1 to {most}.")


_worker = Worker("tinyslm.course.checking:answer", _LIMITS)


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """In the worker: check the file of one request."""
    from tinyslm.course.exercises import EXERCISES

    names, number = list(EXERCISES), request["number"]
    if not 1 <= number <= len(names):
        return {"unknown": len(names)}
    exercise = EXERCISES[names[number - 1]]
    lines, ended = _in_fork(names[number - 1], Path(request["path"]), request["seconds"])
    if not lines or lines[0]:  # the file itself
        problem = lines[0] if lines else ended
        return {"title": exercise.title, "problem": problem, "checks": []}
    checks = []
    for place, check in enumerate(exercise.checks, 1):
        if place < len(lines):
            checks.append({"description": check.description, "passed": not lines[place], "message": lines[place]})
        else:
            message = ended if place == len(lines) else "Not checked, because the previous check did not finish."
            checks.append({"description": check.description, "passed": False, "message": message})
    return {"title": exercise.title, "problem": "", "checks": checks}


def _in_fork(name: str, path: Path, seconds: int) -> tuple[list[str], str]:
    """What the fork wrote, a line for the file and for each check, and how it ended, in words."""
    with tempfile.TemporaryDirectory(prefix="tinyslm-") as folder:
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            _check(name, path, seconds, Path(folder), theirs)
        os.close(theirs)
        written, late = _read(ours, seconds * PATIENCE)
        if late:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)):
        ended = f"Your code took more than {seconds} seconds, and was stopped: is there an infinite loop?"
    else:
        ended = "Your code ended the process in which it was checked."
    return [json.loads(line) for line in written.decode().splitlines(keepends=True) if line.endswith("\n")], ended


def _read(pipe: int, seconds: float) -> tuple[bytes, bool]:
    """All that is written to a pipe until it is closed, and whether that takes too long."""
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    with os.fdopen(pipe, "rb", buffering=0) as reading:
        while (left := deadline - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
            if not (part := reading.read(1 << 16)):
                return b"".join(parts), False
            parts.append(part)
    return b"".join(parts), True


def _check(name: str, path: Path, seconds: int, folder: Path, pipe: int) -> None:
    """In the fork: check, write a line of JSON for the file and for each check, and exit."""
    import resource

    import torch

    try:
        os.setsid()
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        torch.manual_seed(0)
        os.environ["CXX"] = "none"  # PyTorch computes everything: compiling kernels would take longer than the checks
        sys.dont_write_bytecode = True
        for line in _lines(name, path):
            os.write(pipe, json.dumps(line).encode() + b"\n")
    finally:
        os._exit(0)


def _lines(name: str, path: Path) -> Iterator[str]:
    from tinyslm.course.exercises import EXERCISES

    try:
        module = _loaded(path)
    except BaseException as error:  # SystemExit too
        yield _raised(error, path)
        return
    yield ""
    for check in EXERCISES[name].checks:
        try:
            yield one_line(check.failure(module), 400)
        except BaseException as error:
            yield _raised(error, path)


def _loaded(path: Path) -> Any:
    """The learner's file as a module. A plugin is no more than that: a module that adds to registries."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("exercise", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exercise"] = module
    spec.loader.exec_module(module)
    return module


def _raised(error: BaseException, path: Path) -> str:
    """What the learner's code raised, and in which of its lines."""
    said = one_line(f"{type(error).__name__}: {error}".removesuffix(": "), 300)
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"Your code raised {type(error).__name__}: {error.msg} (line {error.lineno})."
    place, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            place = trace.tb_lineno
        trace = trace.tb_next
    if place is not None:
        return f"Your code raised {said} (line {place})."
    if isinstance(error, AttributeError) and getattr(error.obj, "__name__", "") == "exercise":
        return f'There is no "{error.name}" in your file.'
    return f"Your code does not have the required interface: {said}."
