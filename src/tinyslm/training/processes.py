"""A command in several processes, which torchrun (or another launcher that sets its variables) has started.

Process 0 is the program as ever: it plans, prepares data, prints, evaluates and writes. The others know nothing of the
command; they take part in the runs that process 0 starts or resumes, and end when it ends, with its exit code.
"""

import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from tinyslm.core.console import fail
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_json
from tinyslm.training.interrupt import SIGNALS, Interrupted
from tinyslm.training.run import Run
from tinyslm.training.run_folder import LIBRARIES
from tinyslm.training.world import LostProcess, World, leave, resuming

TIMEOUT = "TINYSLM_TIMEOUT"
"""The environment variable for the seconds that processes wait for each other."""
USUAL_TIMEOUT = 600.0
LAST_WORDS = 5.0
"""Seconds that a process which has lost another one waits to learn how process 0 has ended."""
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_END, _LEFT, _SAID = "tinyslm/end", "tinyslm/left", "tinyslm/said"


def run_together(program: Callable[[], None]) -> NoReturn:
    """Run a program in process 0; in the others, take part in its runs. Exits with the program's code in all of them.

    Prints two lines and exits with code 2 if the processes cannot reach each other, or differ in their code.
    """
    try:
        store, rank = _join()
    except TinyslmError as error:
        fail(error.problem, error.remedy)
        sys.exit(2)
    try:
        World.current().agree(_code(), "Install the same versions on every host.")
    except TinyslmError as error:
        if not rank:
            fail(error.problem, error.remedy)
        sys.exit(2)
    if rank:
        sys.exit(_follow(store))
    code = 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it ends as by Ctrl-C, and the others are told
    try:
        program()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        _end(store, code)
    sys.exit(code)


def _join() -> tuple[Store, int]:
    """Initialise `torch.distributed`, and return the store that all processes share, and this process's number."""
    seconds = _timeout()
    environment = {name: os.environ.get(name, "") for name in VARIABLES}
    where = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    try:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=seconds)))
        dist.init_process_group(_backend(), store=store, rank=rank, world_size=size, timeout=timedelta(seconds=seconds))
        World.current().lead(lambda: None)  # connects them, also for waiting
    except (RuntimeError, ValueError) as error:
        raise TinyslmError(
            f"Process {environment['RANK']} of {environment['WORLD_SIZE']} on {platform.node()} did not meet the "
            f"others at {where} within {seconds:g} s: {str(error).strip().splitlines()[0]}",
            "Check that every process was started, and that its host reaches the others (GLOO_SOCKET_IFNAME names the "
            "network interface).",
        ) from None
    for name in VARIABLES:  # programs that this one starts are alone
        os.environ.pop(name, None)
    return store, rank


def _timeout() -> float:
    given = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(given or USUAL_TIMEOUT)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**7:
        raise TinyslmError(f"{TIMEOUT}={given} is not a number of seconds.", f"For instance: {TIMEOUT}=60")
    return seconds


def _backend() -> str:
    """Gloo for what is on a CPU; NCCL for GPUs, unless processes share one."""
    if not torch.cuda.is_available():
        return "gloo"
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    torch.cuda.set_device(local % gpus)
    shared = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > gpus
    return "gloo" if shared else "cpu:gloo,cuda:nccl"


def _code() -> dict[str, str]:
    """What has to be the same in all processes before they can understand each other."""
    folder = Path(__file__).parents[1]
    sources = {str(file.relative_to(folder)): file.read_text("utf-8") for file in sorted(folder.rglob("*.py"))}
    return {
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "tinyslm's code": sha256_json(sources)[:12],
    }


def _follow(store: Store) -> int:
    """Take part in runs until process 0 has ended; returns the exit code."""
    for number in SIGNALS:  # process 0 and the run decide what a signal means
        signal.signal(number, lambda *_: None)
    place = ""
    while True:
        try:
            run = Run.follow()
            place = str(run.folder.path)
            for _ in run.events():
                pass
        except LostProcess as error:
            return _ended(store, error, place)
        except (TinyslmError, Interrupted):
            continue  # process 0 has the same, and says so


def _ended(store: Store, lost: LostProcess, place: str) -> int:
    """The exit code of process 0; if it was lost itself, one process says so."""
    code, first = 2, True
    with suppress(RuntimeError):  # nobody is there to say how it ended
        if _soon(lambda: store.check([_END])):
            code, first = int(store.get(_END)), False
            store.add(_LEFT, 1)
        else:
            first = store.add(_SAID, 1) == 1
    if first:
        fail(lost.problem, resuming(place) if place else lost.remedy)
    return code


def _end(store: Store, code: int) -> None:
    """Let the other processes end: they lose this one, and find the exit code in the store."""
    others = World.current().size - 1
    with suppress(RuntimeError):
        store.set(_END, str(code))
        leave()
        _soon(lambda: store.add(_LEFT, 0) >= others)


def _soon(true: Callable[[], bool]) -> bool:
    """Whether something becomes true in `LAST_WORDS`."""
    end = time.monotonic() + LAST_WORDS
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.01)
    return found
