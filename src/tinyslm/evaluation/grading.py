"""Runs in the worker process: regular expressions, executed answers and users' graders. Imports nothing heavy.

Each answer executes in its own process, forked from the worker, so that nothing it changes or starts outlives it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import re
import resource
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

PASSED = "passed"
LONGEST_RUN = 10.0
"""Wall-clock seconds for one answer; the worker's own limits are on processor time and memory."""

PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)
MOST_ORPHANS = 1000
"""How often to look for processes that an answer has started; it may start more while they are being killed."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Grade one request of `graders`. Returns "score", "why" and "parts"; or "mistake" for an error of the grader."""
    return _KINDS[request["do"]](request)


def _regex(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        pattern = re.compile(request["pattern"])
    except re.error as error:
        return {"mistake": f"{request['pattern']!r:.100} is not a regular expression: {error}."}
    return {"score": float(bool(pattern.search(request["text"])))}


def _python(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        test = compile(request["test"], "<test>", "exec")
    except (SyntaxError, ValueError) as error:
        return {"mistake": f"A test is not valid Python: {error}."}
    _adopt_orphans()
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _execute(request["code"], test, theirs)
    os.close(theirs)
    ended = _ends_in_time(child)
    with os.fdopen(ours, "rb") as pipe:
        why = pipe.read(400).decode(errors="replace") if ended else "it took too long"
    return {"score": 1.0} if why == PASSED else {"score": 0.0, "why": why or "it ended the process"}


def _execute(code: str, test: Any, pipe: int) -> None:
    """In the child: run code and test, write the result to the pipe, and exit.

    Only the pipe and the null device stay open, so that the code cannot forge the worker's reply.
    """
    os.setsid()
    os.closerange(3, pipe)
    os.closerange(pipe + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    names: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(code, "<answer>", "exec"), names)  # noqa: S102  (what this process is for)
        exec(test, names)  # noqa: S102
        why = PASSED
    except BaseException as error:  # SystemExit too
        why = f"{type(error).__name__}: {error}"[:200]
    os.write(pipe, why.encode(errors="replace"))
    os._exit(0)


def _ends_in_time(child: int) -> bool:
    """Wait for the child and kill whatever it started. Returns False if the child had to be killed."""
    deadline, ended = time.monotonic() + LONGEST_RUN, False
    while not ended and time.monotonic() < deadline:
        ended = os.waitpid(child, os.WNOHANG)[0] == child
        time.sleep(0 if ended else 0.002)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
    _end_orphans()
    return ended


@lru_cache
def _adopt_orphans() -> None:
    """Become the parent of orphaned descendants, where the system supports it (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_orphans() -> None:
    """Kill processes that an answer has started in other sessions."""
    for _ in range(MOST_ORPHANS):
        try:
            children = [
                int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()
            ]
        except OSError:
            return
        if not children:
            return
        for child in children:
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _load(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        if not callable(_function(request["path"], request["function"], request["changed"])):
            return {"mistake": f'its "{request["function"]}" is no function'}
    except AttributeError as error:
        if error.name == request["function"]:
            return {"mistake": f'it has no function "{request["function"]}"'}
        return _unusable(request, error)
    except BaseException as error:
        return _unusable(request, error)
    return {"score": 0.0}


def _unusable(request: Mapping[str, Any], error: BaseException) -> dict[str, Any]:
    return {"mistake": f"{request['path']} cannot be used as a grader: {type(error).__name__}: {error}"[:300]}


def _file(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        grade = _function(request["path"], request["function"], request["changed"])
    except BaseException as error:
        return _unusable(request, error)
    try:
        found = grade(request["example"], request["answer"])
    except BaseException as error:
        why = f"the grader failed: {type(error).__name__}: {error}"[:200]
        return {"score": 0.0, "parts": {"grader_failed": 1.0}, "why": why}
    if isinstance(found, Mapping):
        reply = {"score": found.get("score"), "parts": found.get("parts"), "why": found.get("why")}
    else:
        reply = {"score": getattr(found, "score", found), "parts": getattr(found, "parts", None)}
    score = reply["score"]
    if isinstance(score, bool | int | float) and math.isfinite(score) and 0 <= score <= 1:
        return reply | {"score": float(score)}
    return {"mistake": f"The grader {request['function']} returned {score!r:.100}; a score is a number from 0 to 1."}


@lru_cache
def _function(path: str, name: str, _changed: int) -> Any:
    spec = importlib.util.spec_from_file_location("users_grader", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


_KINDS = {"regex": _regex, "python": _python, "load": _load, "file": _file}
