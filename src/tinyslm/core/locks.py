"""Advisory locks for writing files and folders. A lock ends with its process, even after a crash."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import check_folder, disk_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCKS = Path("/proc/locks")
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems without locks, where nothing prevents a second writer."""


class Lock:
    """A lock on writing to `target`: an advisory lock on the lock file `file`, which exists while the lock is held.

    Reentrant: held until released as often as acquired. Missing parent folders of the file are made, and removed on
    release if they are empty.
    """

    def __init__(self, file: Path, target: Path, *, needed: bool = True) -> None:
        """needed: False to take no lock, because a cooperating process holds it."""
        self.file, self.target = file, target
        self._needed = needed
        self._times = 0
        self._handle = -1
        self._made: list[Path] = []

    def acquire(self) -> None:
        """Raises `TinyslmError` if another process holds the lock, or if the lock file cannot be written."""
        if not self._times and self._needed:
            self._made = [folder for folder in self.file.parents if not folder.exists()]
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                while self._handle < 0:
                    self._handle = self._opened()
            except OSError as error:
                self._remove_folders()
                raise disk_error(self.target, error) from None
        self._times += 1

    def release(self) -> None:
        """Undo one `acquire`."""
        self._times -= 1
        if not self._times and self._needed:
            with suppress(OSError):
                self.file.unlink()  # before unlocking: afterwards it may be the file of another process
            self._close()
            self._remove_folders()

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()

    def __del__(self) -> None:
        """Close the file, which ends the lock."""
        self._close()

    def _opened(self) -> int:
        """The descriptor of the locked file; -1 if its former holder has removed the file in the meantime."""
        handle = os.open(self.file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            claim(handle, self.target)
            if is_at(handle, self.file):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return -1

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _remove_folders(self) -> None:
        with suppress(OSError):  # a folder that is not empty stays
            for folder in self._made:
                folder.rmdir()


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Lock `path` for writing; raises `TinyslmError` if another process has locked it, naming that process."""
    place = path.absolute()  # has a name, even if `path` is "."
    with Lock(place.parent / f".{place.name}.lock", path):
        yield


@contextmanager
def waiting_lock(file: Path) -> Iterator[None]:
    """Hold the lock file `file`, which stays, for the block; waits while another process holds it.

    Raises `DiskError` if the file cannot be written.
    """
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise disk_error(file, error) from error
    try:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def new_output(path: Path) -> Iterator[None]:
    """Lock the folder `path` while the block makes it.

    Raises `TinyslmError` if it exists, is locked, cannot be written or has the name of a file.
    """
    check_folder(path)
    _check_unused(path)
    with only_writer(path):
        _check_unused(path)  # a process that has just ended may have written it
        yield


def _check_unused(path: Path) -> None:
    if path.exists():
        raise TinyslmError(f"{path} exists already.", "Give another folder with --out, or remove this one first.")


def claim(handle: int, target: Path) -> None:
    """Lock an open file without waiting; raises `TinyslmError` if another process has locked it to write `target`."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise in_use(target, _holder(handle)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def in_use(target: Path, holder: str = "Another process") -> TinyslmError:
    """The error for a `target` that another process is writing."""
    return TinyslmError(
        f"{holder} is already writing {target}.", "Wait until it has ended, or stop it, or write to another place."
    )


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    """The process that has locked the file: `Process 1234` on Linux, elsewhere `Another process`."""
    wanted = str(os.fstat(handle).st_ino)
    with suppress(OSError):
        for line in _LOCKS.read_text(encoding="utf-8").splitlines():
            # 1: FLOCK  ADVISORY  WRITE 1234 fe:00:2146345 0 EOF
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].split(":")[-1] == wanted and fields[4] != "0":
                return f"Process {fields[4]}"
    return "Another process"
