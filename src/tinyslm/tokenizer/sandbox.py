"""Chat templates from outside, rendered in a process of their own.

A template is a program, and whoever wrote it may mean harm: endless loops, texts of ten gigabytes, ways out of
Jinja's sandbox. So it runs in another process, with limits on its time, its memory and what it may write, and without
this process's environment variables, open files and secrets. The process is started when first needed, serves all
threads one after another, and ends with this one: it reads its requests from a socket, and stops when that closes.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError

CPU_SECONDS = 1  # for one conversation, rounded up to the next second; real templates need some milliseconds
MEMORY = 512 << 20  # bytes of address space, some 50 MiB of them for Python itself
WAIT_SECONDS = 60  # for an answer, on a machine that is busy with other things
LONGEST_TEMPLATE = 1 << 20  # characters
LONGEST_REPLY = 1 << 27  # bytes
LONGEST_MESSAGE = 300  # characters of what a template says when it refuses or fails

_PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "TZ")

_ATTACK = "Take the template from the model's maker again, or remove it: one that does so may be an attack."
_REMEDIES = {
    "syntax": "Correct chat_template.jinja, or take it from the model's maker again.",
    "refused": "Change the messages so that the template takes them: their roles, or the order of these.",
    "failed": "Give messages with the entries that the template reads, or correct the template.",
}
_PROBLEMS = {
    "syntax": "The chat template is not valid Jinja: {}.",
    "refused": "The chat template refuses this conversation: {}.",
    "failed": "The chat template failed: {}.",
    "forbidden": "The chat template does what is forbidden to it: {}.",
    "long": "The chat template writes too long a text.",
    "time": "The chat template takes too long: real ones need some milliseconds.",
    "memory": f"The chat template needs more than {MEMORY >> 20} MiB of memory.",
    "ended": "The process that rendered the chat template ended: {}.",
}


def problem(kind: str, message: str = "") -> TinyslmError:
    """What went wrong with a template, as the user's error; `message` is the template's own and not to be trusted."""
    plain = "".join(character if character.isprintable() else " " for character in message[:LONGEST_MESSAGE])
    return TinyslmError(_PROBLEMS[kind].format(plain.strip().rstrip(".")), _REMEDIES.get(kind, _ATTACK))


def render_apart(template: str, values: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """The text that `template` makes of `values` (plain JSON), and the spans of its `{% generation %}` blocks.

    Safe to call from many threads. Raises `TinyslmError` when the template gives no text within its limits.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise problem("failed", f"it is {len(template)} characters long, {LONGEST_TEMPLATE} are allowed")
    answer = _PROCESS.ask({"template": template, "values": values})
    if "text" in answer:
        return str(answer["text"]), [(int(begin), int(end)) for begin, end in answer["spans"]]
    raise problem(str(answer["kind"]), str(answer["message"]))


class _Process:
    """The rendering process: started when first asked, replaced when it ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._registered = False

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request; an answer too when the process does not survive it."""
        try:
            data = json.dumps(request).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TinyslmError(
                f"The messages are no plain JSON values ({error}).", "Give texts, lists and dictionaries."
            ) from None
        with self._lock:
            try:
                connection = self._started()
                _send(connection, data, time.monotonic() + WAIT_SECONDS)
                answer = json.loads(_receive(connection, time.monotonic() + WAIT_SECONDS, LONGEST_REPLY))
            except TimeoutError:
                self._end()
                return {"kind": "time", "message": ""}
            except (OSError, EOFError, ValueError):
                return self._post_mortem()
            except BaseException:  # such as Ctrl-C: the answer would be taken for the next one's
                self._end()
                raise
            if answer.get("kind") == "memory":
                self._end()
            return dict(answer)

    def close(self) -> None:
        """End the process, if there is one."""
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
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  (this interpreter, this module)
                [sys.executable, "-P", "-m", "tinyslm.tokenizer.sandbox", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=os.sep,
                env=_environment(),
            )
        self._socket = ours
        return ours

    def _post_mortem(self) -> dict[str, Any]:
        """Why the process closed its end."""
        code = self._end(patience=5)
        if code == -signal.SIGXCPU:
            return {"kind": "time", "message": ""}
        return {"kind": "ended", "message": f"exit code {code}"}

    def _end(self, patience: float = 0) -> int | None:
        """Close the connection and wait for the process, which is killed after `patience` seconds."""
        if self._socket is not None:
            self._socket.close()
        process, self._process, self._socket = self._process, None, None
        if process is None:
            return None
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _forget(self) -> None:
        """In a fork of this program: the process is the parent's, and so may be the lock."""
        self._lock = threading.Lock()
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.returncode = 0  # it is not ours to wait for
        self._process = self._socket = None


_PROCESS = _Process()


def _environment() -> dict[str, str]:
    """What the process needs of our environment, and none of the secrets in it."""
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"PYTHONPATH": paths}


def _send(connection: socket.socket, data: bytes, deadline: float) -> None:
    connection.settimeout(max(deadline - time.monotonic(), 0.001))
    connection.sendall(len(data).to_bytes(8, "big") + data)


def _receive(connection: socket.socket, deadline: float | None, longest: int) -> bytes:
    """One message. Raises `EOFError` when the other end closed, `ValueError` when the message is too long."""
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


def serve(connection: socket.socket) -> None:
    """What the rendering process does: take a template and its values, send back the text or what went wrong."""
    from tinyslm.tokenizer.template import TemplateProblem, render

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends this process
    _limit(resource.RLIMIT_AS, MEMORY)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    while True:
        try:
            request = json.loads(_receive(connection, None, sys.maxsize))
        except EOFError:
            return
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + CPU_SECONDS)
        try:
            rendered = render(request["template"], request["values"])
            answer = {"text": rendered.text, "spans": rendered.spans}
        except TemplateProblem as error:
            answer = {"kind": error.kind, "message": str(error)[:LONGEST_MESSAGE]}
        except MemoryError:
            answer = {"kind": "memory", "message": ""}
        data = json.dumps(answer).encode()
        connection.sendall(len(data).to_bytes(8, "big") + data)


def _limit(kind: int, value: int) -> None:
    """Lower a limit of this process; some systems do not know all of them."""
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
