"""Run untrusted or native code, such as chat templates and grammars, in a process with limited time, memory and output.

The process starts at the first request, serves all threads one request after another, and ends with this program. It
inherits no open files, and of the environment only variables such as `LANG`, so no secrets. If it dies or takes too
long, one request fails; the next one starts a new process.

Each message is JSON after its length in 8 bytes, over a socket.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from tinyslm.core.errors import TinyslmError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "TZ")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
NO_REPLY = "no reply"  # `WorkerError.detail` after `wait_seconds` without a reply; a retry may succeed
_MEMORY_REPLY = {"worker_failed": "memory"}

Failure = Literal["time", "memory", "ended", "reply"]
Answer = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Limits:
    """The limits of one request.

    cpu_seconds: processor time, rounded up to the next second. memory: bytes of address space, of which Python itself
    takes about 50 MiB. wait_seconds: elapsed time until the reply. reply: bytes of the reply. stack: bytes of the stack
    of the thread that runs the target; 0: the system's default. file_size: bytes of a file that the process writes, or
    of one in memory, such as the image of a WebAssembly module.
    """

    cpu_seconds: int
    memory: int
    wait_seconds: float = 60.0
    reply: int = 1 << 27
    stack: int = 0
    file_size: int = 0


class WorkerError(Exception):
    """A request took too long, exceeded the limit of memory or of the reply's length, or ended the process."""

    def __init__(self, kind: Failure, detail: str = "") -> None:
        super().__init__(f"{kind} {detail}".rstrip())
        self.kind = kind
        self.detail = detail


class Worker:
    """A process that answers requests with `target`, "module:function", which takes and returns JSON values."""

    def __init__(self, target: str, limits: Limits) -> None:
        self.limits = limits
        self._target = target
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._registered = False

    @property
    def pid(self) -> int | None:
        """The process's id, or None while there is no process."""
        return None if self._process is None else self._process.pid

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return its reply. Safe to call from many threads.

        Raises `WorkerError` when there is no reply, `TinyslmError` on a system without limits of processes, and
        `TypeError`, `ValueError` or `RecursionError` for a request that is not JSON.
        """
        data = json.dumps(request).encode()
        with self._lock:
            try:
                connection = self._started()
                _send(connection, data, time.monotonic() + self.limits.wait_seconds)
                reply = json.loads(_receive(connection, time.monotonic() + self.limits.wait_seconds, self.limits.reply))
            except TimeoutError:
                self._end()
                raise WorkerError("time", NO_REPLY) from None
            except ValueError:
                self._end()
                raise WorkerError("reply", f"more than {self.limits.reply} bytes") from None
            except (OSError, EOFError):
                raise self._post_mortem() from None
            except BaseException:  # such as Ctrl-C: otherwise the next request would get this one's reply
                self._end()
                raise
            if reply == _MEMORY_REPLY:
                self._end()
                raise WorkerError("memory")
            return dict(reply)

    def close(self) -> None:
        """Stop the process, if there is one."""
        with self._lock:
            self._end()

    def _started(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        if not self._registered:
            self._registered = True
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self._forget)
        ours, theirs = socket.socketpair()
        if resource is None:
            raise TinyslmError(
                "On this system, a process cannot be limited in time and memory.",
                "Use Linux, macOS, or Linux inside Windows (WSL 2).",
            )
        limits = self.limits
        numbers = [theirs.fileno(), limits.cpu_seconds, limits.memory, limits.stack, limits.file_size]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  (this interpreter, this module)
                [sys.executable, "-P", "-m", "tinyslm.core.worker", self._target, *map(str, numbers)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=os.sep,
                env=_environment(),
            )
        self._socket = ours
        return ours

    def _post_mortem(self) -> WorkerError:
        """The error of a process that closed the connection."""
        code = self._end(timeout=5)
        return WorkerError("time") if code == -signal.SIGXCPU else WorkerError("ended", f"exit code {code}")

    def _end(self, timeout: float = 0) -> int | None:
        """Close the connection, wait for the process, and kill it after `timeout` seconds."""
        if self._socket is not None:
            self._socket.close()
        process, self._process, self._socket = self._process, None, None
        if process is None:
            return None
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _forget(self) -> None:
        """In a fork of this program, the process and perhaps the lock belong to the parent."""
        self._lock = threading.Lock()
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.returncode = 0  # a child must not wait for it
        self._process = self._socket = None


def _environment() -> dict[str, str]:
    """The environment variables of the process, without secrets."""
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | _ONE_THREAD | {"PYTHONPATH": paths}


def _send(connection: socket.socket, data: bytes, deadline: float) -> None:
    connection.settimeout(max(deadline - time.monotonic(), 0.001))
    connection.sendall(len(data).to_bytes(8, "big") + data)


def _receive(connection: socket.socket, deadline: float | None, longest: int) -> bytes:
    """Receive one message. Raises `EOFError` when the other end closed, `ValueError` when it is too long."""
    size = int.from_bytes(_exactly(connection, 8, deadline), "big")
    if size > longest:
        raise ValueError(f"a message of {size} bytes")
    return _exactly(connection, size, deadline)


def _exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    parts: list[bytes] = []
    while size:
        connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
        parts.append(connection.recv(min(size, 1 << 20)))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)


def _serve(connection: socket.socket, answer: Answer, cpu_seconds: int) -> None:
    """Answer requests until the connection closes. Runs in the worker process."""
    while True:
        try:
            request = json.loads(_receive(connection, None, sys.maxsize))
        except (EOFError, ConnectionError):
            return
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + cpu_seconds)
        try:
            data = json.dumps(answer(request)).encode()
        except MemoryError:
            data = json.dumps(_MEMORY_REPLY).encode()
        connection.sendall(len(data).to_bytes(8, "big") + data)


def _limit(kind: int, value: int) -> None:
    """Lower a limit of this process, if the system supports it."""
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _main(target: str, descriptor: int, cpu_seconds: int, memory: int, stack: int, file_size: int) -> None:
    """The main function of the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, with which this process ends
    module, _, function = target.partition(":")
    answer: Answer = getattr(import_module(module), function)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, file_size)
    _limit(resource.RLIMIT_CORE, 0)
    threading.stack_size(stack)
    serving = threading.Thread(target=_serve, args=(socket.socket(fileno=descriptor), answer, cpu_seconds))
    serving.start()
    serving.join()


if __name__ == "__main__":
    _main(sys.argv[1], *map(int, sys.argv[2:]))
