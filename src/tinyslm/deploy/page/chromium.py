"""A Chromium without a window, driven over a pipe by the DevTools protocol, which every such browser speaks.

https://chromedevtools.github.io/devtools-protocol/
"""

import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser")
SECONDS = 60
READ = 2**16
_LOADED = "() => new Promise((done) => (document.readyState === 'complete' ? done() : (onload = () => done())))"


class BrowserError(Exception):
    """The browser does not start, does not answer, or the page raised an error."""


def find_browser() -> str | None:
    """The first Chromium on the search path."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class NoBrowserError(BrowserError):
    """The browser does not start: there may be no sandbox for it, or no library that it needs."""


@contextmanager
def open_page(program: str, url: str, seconds: float = SECONDS) -> Iterator["Page"]:
    """The page at `url` in a browser with a fresh profile, until the block ends.

    Raises `NoBrowserError` if the browser does not start.
    """
    with TemporaryDirectory(prefix="tinyslm-browser-", ignore_cleanup_errors=True) as profile:
        process, pipe = _start(program, profile)
        try:
            page = Page(pipe)
            page.open(url, seconds)
            yield page
        finally:
            with suppress(OSError, BrowserError):
                pipe.call("Browser.close", seconds=5)
            _end(process)
            pipe.close()


class Page:
    """A page of a browser.

    Attributes: `requests`: addresses that it and its workers asked for. `complaints`: errors and warnings of its
    console, violated policies included. `browser`: name and version.
    """

    def __init__(self, pipe: "_Pipe") -> None:
        self._pipe = pipe
        self.requests: list[str] = []
        self.complaints: list[str] = []
        try:
            self.browser: str = pipe.call("Browser.getVersion")["product"]
        except BrowserError as error:
            raise NoBrowserError(str(error)) from None
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        pipe.heard = self._hear
        self._session: str = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._listen(self._session)
        for domain in ("Page", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, seconds: float = SECONDS, **values: Any) -> dict[str, Any]:
        """Send a command to the page; returns its result."""
        return self._pipe.call(method, self._session, seconds, **values)

    def open(self, url: str, seconds: float = SECONDS) -> None:
        """Go to an address, and wait until the document and its scripts have run."""
        found = self.call("Page.navigate", url=url)
        if failed := found.get("errorText"):
            raise BrowserError(f"{url}: {failed}")
        self.run(
            "() => new Promise((done) => document.readyState === 'complete' ? done() : onload = () => done())", seconds
        )

    def run(self, function: str, seconds: float = SECONDS, *arguments: Any) -> Any:
        """Call a JavaScript function of the page with JSON values, and wait for its value."""
        given = ", ".join(json.dumps(argument) for argument in arguments)
        expression = f"({function})({given})"
        found = self.call("Runtime.evaluate", seconds, expression=expression, awaitPromise=True, returnByValue=True)
        if details := found.get("exceptionDetails"):
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def _listen(self, session: str) -> None:
        """Hear of the requests of a page or a worker, and of the workers that it starts."""
        for method in ("Network.enable", "Runtime.enable"):
            self._pipe.send(method, session)
        self._pipe.send("Target.setAutoAttach", session, autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        self._pipe.send("Runtime.runIfWaitingForDebugger", session)

    def _hear(self, method: str, values: dict[str, Any]) -> None:
        match method:
            case "Target.attachedToTarget":
                self._listen(values["sessionId"])
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(values["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning"):
                self.complaints.append(
                    " ".join(str(one.get("value", one.get("description"))) for one in values["args"])
                )
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                self.complaints.append(values["entry"]["text"])


class _Pipe:
    """Messages to the browser and from it: JSON, each ended by a zero byte."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, writes
        self._number = 0
        self._waiting = b""
        self.heard: Callable[[str, dict[str, Any]], None] = lambda _method, _values: None

    def send(self, method: str, session: str = "", **values: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        content = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        try:
            while content:
                content = content[os.write(self._writes, content) :]
        except OSError as error:
            raise BrowserError("the browser has ended") from error
        return self._number

    def call(self, method: str, session: str = "", seconds: float = SECONDS, **values: Any) -> dict[str, Any]:
        number, deadline = self.send(method, session, **values), time.monotonic() + seconds
        while True:
            message = self._receive(deadline, method)
            if message.get("id") == number:
                if problem := message.get("error"):
                    raise BrowserError(f"{method}: {problem['message']}")
                result: dict[str, Any] = message["result"]
                return result
            if "method" in message:
                self.heard(message["method"], message["params"])

    def _receive(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._reads], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise BrowserError(f"no answer to {method} in time")
            part = os.read(self._reads, READ)
            if not part:
                raise BrowserError("the browser has ended")
            self._waiting += part
        content, _, self._waiting = self._waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(content)
        return message

    def close(self) -> None:
        for handle in (self._reads, self._writes):
            os.close(handle)


def _start(program: str, profile: str) -> tuple[int, _Pipe]:
    """Start a browser that reads commands from its file 3, and writes to its file 4; returns its process, too."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Numbers above 9 cannot be those that they become.
    child = [fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 10) for handle in (theirs_in, theirs_out)]
    command = [
        program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
        "--disable-gpu", "--disable-extensions", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", "--mute-audio", *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank",
    ]  # fmt: skip
    placed = [(os.POSIX_SPAWN_DUP2, handle, place) for place, handle in zip((3, 4), child, strict=True)]
    silent = [(os.POSIX_SPAWN_OPEN, handle, os.devnull, os.O_RDWR, 0) for handle in (0, 1, 2)]
    try:
        return os.posix_spawn(program, command, os.environ, file_actions=[*silent, *placed]), _Pipe(ours_in, ours_out)
    except OSError as error:
        raise NoBrowserError(str(error)) from None
    finally:
        for handle in (theirs_in, theirs_out, *child):
            os.close(handle)


def _end(process: int) -> None:
    """Wait for the browser to end; one that does not is killed."""
    for _ in range(50):
        if os.waitpid(process, os.WNOHANG)[0]:
            return
        time.sleep(0.1)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
