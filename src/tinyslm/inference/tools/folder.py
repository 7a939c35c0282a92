"""A folder below which files may be reached, and nothing else.

Paths come from a model. Each part of one is opened relative to the folder before it, and a symbolic link is never
followed, so that nothing outside can be reached, even when someone swaps a folder for a link in between: what has
been checked is what is open. (Checking a whole path first and opening it then would leave that gap.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tools.tool import ToolError

LONGEST_PATH = 1_000  # characters
DEEPEST = 40  # folders within folders

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_ABLE = hasattr(os, "O_NOFOLLOW") and os.open in os.supports_dir_fd


@dataclass(frozen=True)
class Entry:
    """Something in a folder. path: from the root, with /. kind: "file", "folder", "link" or "other". size: bytes."""

    path: str
    kind: str
    size: int


class SafeFolder:
    """Files below `root`, by paths relative to it. Every mistake in a path is a `ToolError`."""

    def __init__(self, root: str | Path) -> None:
        """Raises `TinyslmError` where `root` is not a folder, or the system cannot open files safely (Windows)."""
        self.root = Path(root).resolve()
        if not _ABLE:
            raise TinyslmError("This system cannot keep tools inside a folder.", "Use Linux or macOS for file tools.")
        if not self.root.is_dir():
            raise TinyslmError(f"There is no folder {root}.", "Give a folder that exists.")

    def read(self, path: str, limit: int) -> tuple[bytes, int]:
        """At most the first `limit` bytes of a file, and the size of the whole."""
        *folders, name = self._parts(path)
        with self._folder(folders, path) as folder, _opened(name, _FILE, folder, path) as file:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                raise ToolError(f"{path} is not a file.")
            with os.fdopen(os.dup(file), "rb") as stream:
                return stream.read(limit), about.st_size

    def entries(self, path: str = "") -> list[Entry]:
        """What a folder holds, sorted by name."""
        parts = self._parts(path, may_be_root=True)
        with self._folder(parts, path) as folder:
            return [_entry(folder, name, "/".join([*parts, name])) for name in sorted(os.listdir(folder))]  # noqa: PTH208  (a descriptor)

    def walk(self, path: str = "") -> Iterator[Entry]:
        """Every file below a folder, in order; links are not followed, hidden files and folders left out."""
        for entry in self.entries(path):
            if entry.path.rpartition("/")[2].startswith("."):
                continue
            if entry.kind == "folder" and entry.path.count("/") < DEEPEST:
                with suppress(ToolError):  # removed in the meantime, or unreadable
                    yield from self.walk(entry.path)
            elif entry.kind == "file":
                yield entry

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole or not at all, replacing an older one; folders on the way to it are made."""
        *folders, name = self._parts(path)
        with self._folder(folders, path, make=True) as folder:
            try:
                if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise ToolError(f"{path} exists and is not a file.")
            except FileNotFoundError:
                pass
            except OSError as error:
                raise _problem(path, error) from None
            temporary = f".{token_hex(8)}.tmp"
            with _opened(temporary, _NEW, folder, path) as file:
                try:
                    with os.fdopen(os.dup(file), "wb") as stream:
                        stream.write(content)
                        stream.flush()
                        os.fsync(file)
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                except OSError as error:
                    with suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise _problem(path, error) from None

    def _parts(self, path: str, *, may_be_root: bool = False) -> list[str]:
        """The names in a path; raises `ToolError` for one that leads elsewhere or nowhere."""
        if "\0" in path or len(path) > LONGEST_PATH or not _encodable(path):
            raise ToolError("This is not a path.")
        if path.startswith(("/", "~")) or "\\" in path:
            raise ToolError(f"{path} is not below the folder: give a path such as notes/today.txt, relative to it.")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise ToolError(f"{path} is not below the folder: .. is not allowed.")
        if len(parts) > DEEPEST or not (parts or may_be_root):
            raise ToolError(f"{path or 'An empty path'} names no file.")
        return parts

    @contextmanager
    def _folder(self, parts: list[str], path: str, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder that the parts lead to, one after another from the root."""
        folder = os.open(self.root, _FOLDER)
        try:
            for part in parts:
                if make:
                    _make(part, folder, path)
                with _opened(part, _FOLDER, folder, path) as inner:
                    os.dup2(inner, folder, inheritable=False)
            yield folder
        finally:
            os.close(folder)


def _encodable(path: str) -> bool:
    """Whether the system can be given it: models write halves of surrogate pairs, which no file name has."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _opened(name: str, flags: int, folder: int, path: str) -> Iterator[int]:
    try:
        descriptor = os.open(name, flags, 0o666, dir_fd=folder)
    except OSError as error:
        raise _problem(path, error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _entry(folder: int, name: str, path: str) -> Entry:
    try:
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:  # removed in the meantime
        return Entry(path, "other", 0)
    for kind, is_kind in (("file", stat.S_ISREG), ("folder", stat.S_ISDIR), ("link", stat.S_ISLNK)):
        if is_kind(about.st_mode):
            return Entry(path, kind, about.st_size if kind == "file" else 0)
    return Entry(path, "other", 0)


def _make(name: str, folder: int, path: str) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise _problem(path, error) from None


def _problem(path: str, error: OSError) -> ToolError:
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return ToolError(f"{path} is a symbolic link, or leads through one: links are not followed.")
    if error.errno == errno.ENOENT:
        return ToolError(f"There is no {path}.")
    if error.errno in (errno.ENOTDIR, errno.ENXIO, errno.EISDIR):
        return ToolError(
            f"{path} is not what it is taken for, or leads through something that is not a folder, as a link."
        )
    return ToolError(f"{path}: {error.strerror or error}.")
