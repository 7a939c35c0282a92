"""Programs that start at once: forked from a process that has already imported what they need.

Importing torch takes two seconds of processor time, and the pages of the documentation alone start some sixty programs.
`ForkServer` starts one process that imports everything once and then only waits; `fork_client.py` takes the place of
`tinyslm` or of `python -c`, and sends that process its arguments, folder, environment and open files. A forked process
continues as the program; its client passes signals on to it, dies with it, and ends as it ends.

Tests of the program's start, of terminals, memory, limits and measuring start the installed program instead.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = (
    *("torch", "torch._dynamo", "torch._inductor", "numpy", "tokenizers", "safetensors.torch", "pydantic", "cyclopts"),
    *("rich.console", "rich.progress", "jinja2", "llguidance", "vl_convert", "ftfy", "rensa", "tiktoken"),
    *("psutil", "yaml", "jsonschema", "charset_normalizer", "zstandard", "xxhash", "bm25s"),
)
"""None of these starts a thread when it is imported: threads are lost in a forked process."""


class ForkServer:
    """The process that forks. path: the folder to put first on PATH; python: what takes the place of `python`, for
    `-c PROGRAM` only. Where the system cannot wait for processes by descriptors, both are the real ones.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fork-"))  # the path of a socket may have a hundred letters
        self._process: subprocess.Popen[bytes] | None = None
        self.path, self.python = Path(sys.executable).parent, sys.executable
        if not hasattr(os, "pidfd_open"):
            return
        client = Path(__file__).with_name("fork_client.py").read_text(encoding="utf-8")
        for name in ("tinyslm", "forked-python"):
            script = self._folder / name
            script.write_text(f"#!{sys.executable} -SIE\n{client}", encoding="utf-8")
            script.chmod(0o700)
        self.path, self.python = self._folder, str(self._folder / "forked-python")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._folder / "socket"))
            listener.listen(16)
            descriptor = listener.fileno()
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(descriptor)], stdin=subprocess.PIPE, pass_fds=[descriptor]
            )

    def close(self) -> None:
        """End the process and all that it forked: it notices that its standard input ends, as it does without this."""
        if self._process is not None:
            self._process.communicate()
        shutil.rmtree(self._folder)


def prepare() -> None:
    """Import what programs will need; nothing is run. Plans will measure text and machine briefly."""
    import tinyslm
    from tinyslm.core.errors import TinyslmError

    for name in LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(tinyslm.__path__, "tinyslm."):
        with contextlib.suppress(TinyslmError):  # it needs an extra that is not installed
            importlib.import_module(module.name)
    sys.modules["tinyslm.planning.planner"].measure_costs = importlib.import_module("brief_costs").brief_costs
    sys.modules["tinyslm.planning.probe"].STEPS = 20
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a library has started a thread"
    gc.collect()
    gc.freeze()  # what is never looked through is never copied


def serve(listener: socket.socket) -> tuple[dict, list[int]]:
    """Fork for each client, report how each process ends, for ever; returns only in a forked process, what is asked."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor of the process: its id, its client
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ, "end")
        selector.register(listener, selectors.EVENT_READ, "client")
        while True:
            for key, _ in selector.select():
                match key.data:
                    case "end":
                        for child, _ in children.values():
                            os.kill(child, signal.SIGKILL)
                        sys.exit()
                    case "client":
                        connection = listener.accept()[0]
                        asked, files = receive(connection)
                        if not (child := os.fork()):
                            for _, other in children.values():
                                other.close()
                            for descriptor in children:
                                os.close(descriptor)
                            connection.close()
                            listener.close()
                            return asked, files
                        for file in files:
                            os.close(file)
                        ended = os.pidfd_open(child)
                        children[ended] = child, connection
                        selector.register(ended, selectors.EVENT_READ, "ended")
                        selector.register(connection, selectors.EVENT_READ, ended)
                    case "ended":
                        selector.unregister(key.fd)
                        os.close(key.fd)
                        child, connection = children.pop(key.fd)
                        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                        if connection in selector.get_map():
                            selector.unregister(connection)
                            connection.send(str(code).encode())
                        connection.close()
                    case ended if ended in children:  # a signal for this process, or the death of its client
                        child, connection = children[ended]
                        number = connection.recv(1) or bytes([signal.SIGKILL])
                        signal.pidfd_send_signal(ended, number[0])
                        if number[0] == signal.SIGKILL:
                            selector.unregister(connection)


def receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """What a client asks for, and its standard input, output and error."""
    read, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not read.endswith(b"\n"):
        read += connection.recv(1 << 16)
    return json.loads(read), files


def become(asked: dict, files: list[int]) -> None:
    """Take over a client's open files, folder and environment."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [asked["program"], *asked["arguments"]]
    sys.modules["numpy"].random.seed()  # as for every new process; Python's own generator does so by itself
    sys.modules["torch"].default_generator.seed()


def run(program: str) -> None:
    """Be the program in `sys.argv`, and end as it does, but without taking down the interpreter, which takes long."""
    codes: list[int] = []
    atexit.register(leave, codes)  # registered first, called last
    try:
        be(program)
        codes.append(0)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            codes.append(end.code or 0)
        raise


def leave(codes: list[int]) -> None:
    """End with the code of the program, if it has one and its output can be written."""
    if codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0] & 0xFF)


def be(program: str) -> None:
    """What the program does."""
    if program == "tinyslm":
        from tinyslm.cli import main

        sys.exit(main())
    option, code, *arguments = sys.argv[1:]
    assert option == "-c", "only programs on the command line"
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    prepare()
    del sys.path[0]  # the folder of this file: programs do not have it
    with socket.socket(fileno=int(sys.argv[1])) as waiting:
        become(*serve(waiting))
    run(Path(sys.argv[0]).name)
