"""Worker processes: `Workers.map` applies a function to tasks in several processes and yields results in order.

The processes are started as `python -m tinyslm.data.workers`, not by `multiprocessing`: so a user's script needs no
`if __name__ == "__main__"`, and no program with threads is forked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, TypeVar

from tinyslm.core.errors import TinyslmError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Mapper(Protocol):
    """Applies functions to tasks in other processes: `Workers`, or `RayWorkers` on several hosts."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Apply `function` to each task, and yield the results in order; few tasks are taken ahead of the results."""


class Workers:
    """`count` processes, started when first needed and ended with the `with` block; 1: work in this process."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._all: list[_Worker] = []
        self._threads = ThreadPoolExecutor(count)  # each waits for one process at a time

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Apply `function` to each task, and yield the results in order; few tasks are taken ahead of the results.

        `function` must be importable. Raises its exceptions, and `TinyslmError` if a process dies.
        """
        if self._count == 1:
            yield from map(function, tasks)
            return
        while len(self._all) < self._count:
            self._all.append(_Worker())
            self._idle.put(self._all[-1])
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            waiting.append(self._threads.submit(self._call, function, task))
            if len(waiting) > 2 * self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _call(self, function: Callable[[Task], Result], task: Task) -> Result:
        worker = self._idle.get()
        try:
            result: Result = worker.call(function, task)
            return result
        finally:
            self._idle.put(worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error:
            for worker in self._all:
                worker.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.close()


class _Worker:
    """One process, and the connection to it."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        handle = theirs.fileno()
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
        self.process = subprocess.Popen(  # noqa: S603  (this interpreter, this module)
            [sys.executable, "-P", "-m", "tinyslm.data.workers", str(handle)],
            pass_fds=[handle],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        theirs.close()

    def call(self, function: Callable[[Any], Any], task: Any) -> Any:
        """Call `function(task)` in the process."""
        try:
            self._connection.send((function, task))
            succeeded, result = self._connection.recv()
        except (EOFError, ConnectionError):
            raise TinyslmError(
                f"A worker process ended before its work was done (exit code {self.process.wait()}).",
                "This happens when memory runs out; run again with --data.workers 1, or close other programs.",
            ) from None
        if succeeded:
            return result
        raise result

    def close(self) -> None:
        """End the process by closing the connection."""
        self._connection.close()
        self.process.wait()


def serve(connection: Connection) -> None:
    """Receive functions and tasks, and send the results or errors, until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    while True:
        try:
            function, task = connection.recv()
        except EOFError:
            return
        try:
            answer = (True, function(task))
        except Exception as error:
            answer = (False, error)
        connection.send(answer)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
