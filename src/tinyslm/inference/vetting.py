"""Untrusted grammars are tried out in a worker process before this process compiles them.

Grammars are compiled by native code, which a malicious grammar can make overflow its stack, or take minutes or
gigabytes. So servers compile the grammars of their clients in a block `with untrusted_grammars():`. There, each grammar
is first compiled and followed for some steps in a process with limits (`trial.py`), and refused if that fails. The
outcome is remembered by the grammar's hash.
"""

from __future__ import annotations

import signal
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256

from tinyslm.core.errors import TinyslmError
from tinyslm.core.worker import NO_REPLY, Limits, Worker, WorkerError

CPU_SECONDS = 1  # rounded up to the next second; grammars that people write take milliseconds
MEMORY = 1 << 30  # bytes of address space
STACK = 4 << 20  # bytes: half of a thread's default, so that a grammar that fits here fits there
REMEMBERED = 1_024  # grammars

WORKER = Worker("tinyslm.inference.trial:answer", Limits(cpu_seconds=CPU_SECONDS, memory=MEMORY, stack=STACK))

_FAILED = {
    "time": f"takes more than {CPU_SECONDS} second to compile and to follow",
    "memory": f"needs more than {MEMORY >> 20} MiB to compile",
    "ended": "makes the grammar library crash",
    "reply": "makes the grammar library fail",
}

_TRANSIENT = (NO_REPLY, f"exit code {-signal.SIGKILL}")
"""Failures of the worker process on a machine that is too busy or out of memory, whatever the grammar."""

_untrusted: ContextVar[bool] = ContextVar("untrusted", default=False)


@contextmanager
def untrusted_grammars() -> Iterator[None]:
    """Grammars that this thread compiles in the block are tried out first, in a worker process."""
    token = _untrusted.set(True)
    try:
        yield
    finally:
        _untrusted.reset(token)


def vet(source: str, what: str, vocab_size: int, special_ids: Mapping[str, int]) -> None:
    """In a block `untrusted_grammars`, raise `TinyslmError` for a grammar that fails within the limits.

    source: as llguidance reads it. what: the grammar's name in messages, such as "The JSON schema".
    """
    if not _untrusted.get():
        return
    key = sha256(f"{vocab_size} {what}\0{source}".encode()).digest()
    found = _REMEMBERED.get(key)
    if found is None:
        found = _try_out(source, what, vocab_size, special_ids)
        _REMEMBERED.put(key, found)
    if found:
        raise TinyslmError(*found)


Refusal = tuple[str, str] | tuple[()]
"""Problem and remedy; nothing for a grammar that can be compiled."""


def _try_out(source: str, what: str, vocab_size: int, special_ids: Mapping[str, int]) -> Refusal:
    request = {"source": source, "what": what, "vocab_size": vocab_size, "special_ids": dict(special_ids)}
    try:
        reply = WORKER.ask(request)
    except WorkerError as error:
        refusal = f"{what} {_FAILED[error.kind]}.", "Make it smaller or simpler."
        if error.detail in _TRANSIENT:
            raise TinyslmError(*refusal) from None  # not remembered
        return refusal
    return (str(reply["problem"]), str(reply["remedy"])) if reply else ()


class _Remembered:
    """Outcomes for the grammars used last; safe to use from several threads."""

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, Refusal] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Refusal | None:
        """The outcome for a grammar; `None` if it is not known."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: bytes, found: Refusal) -> None:
        """Remember an outcome; drops the least recently used one if there are too many."""
        with self._lock:
            self._found[key] = found
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)


_REMEMBERED = _Remembered()
