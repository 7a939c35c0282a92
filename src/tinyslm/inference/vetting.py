"""Untrusted grammars are tested in a worker process before this process compiles them.

Grammars are compiled by native code, which a malicious grammar can make overflow its stack, or take minutes or
gigabytes. So servers compile the grammars of their clients in a block `with untrusted_grammars():`. There, each grammar
is first compiled and followed for some steps in a process with limits (`trial.py`), and refused if that fails. The
result is cached by the grammar's hash.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256

from tinyslm.core.errors import TinyslmError
from tinyslm.core.worker import NO_REPLY, Limits, Worker, WorkerError

CPU_SECONDS = 1  # rounded up to the next second; ordinary grammars take milliseconds
MEMORY = 1 << 30  # bytes of address space
STACK = 4 << 20  # bytes: half of a thread's default, so a grammar that fits here fits in the server
CACHED = 1_024  # grammars

Refusal = tuple[str, str] | tuple[()]
"""Problem and remedy; nothing for a grammar that can be compiled."""

WORKER = Worker("tinyslm.inference.trial:answer", Limits(cpu_seconds=CPU_SECONDS, memory=MEMORY, stack=STACK))

_FAILED = {
    "time": f"takes more than {CPU_SECONDS} second to compile and to follow",
    "memory": f"needs more than {MEMORY >> 20} MiB to compile",
    "ended": "makes the grammar library crash",
    "reply": "makes the grammar library fail",
}

_TRANSIENT = (NO_REPLY, f"exit code {-signal.SIGKILL}")
"""Failures on a machine that is too busy or out of memory, whatever the grammar; they are not cached."""

_cache: dict[bytes, Refusal] = {}
_cache_lock = threading.Lock()
_untrusted: ContextVar[bool] = ContextVar("untrusted", default=False)


@contextmanager
def untrusted_grammars() -> Iterator[None]:
    """Test grammars that this thread compiles in the block in a worker process first."""
    token = _untrusted.set(True)
    try:
        yield
    finally:
        _untrusted.reset(token)


def vet(source: str, what: str, vocab_size: int, special_ids: Mapping[str, int]) -> None:
    """In a block `untrusted_grammars`, raise `TinyslmError` for a grammar that fails within the limits.

    source: in llguidance's syntax. what: the grammar's name in messages, such as "The JSON schema".
    """
    if not _untrusted.get():
        return
    key = sha256(f"{vocab_size} {what}\0{source}".encode()).digest()
    refusal = _cache.get(key)
    if refusal is None:
        refusal = _try_out(source, what, vocab_size, special_ids)
        with _cache_lock:
            if len(_cache) >= CACHED:
                del _cache[next(iter(_cache))]
            _cache[key] = refusal
    if refusal:
        raise TinyslmError(*refusal)


def _try_out(source: str, what: str, vocab_size: int, special_ids: Mapping[str, int]) -> Refusal:
    request = {"source": source, "what": what, "vocab_size": vocab_size, "special_ids": dict(special_ids)}
    try:
        reply = WORKER.ask(request)
    except WorkerError as error:
        refusal = f"{what} {_FAILED[error.kind]}.", "Make it smaller or simpler."
        if error.detail in _TRANSIENT:
            raise TinyslmError(*refusal) from None
        return refusal
    return (str(reply["problem"]), str(reply["remedy"])) if reply else ()
