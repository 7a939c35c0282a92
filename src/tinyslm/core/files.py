"""Atomic writes of files and folders, and manifests of checksums, which detect damage.

A file is written under a temporary name in the same folder, flushed to the disk, and renamed: even after a crash, a
reader sees the old content or the new one, never a part. Folders are written in the same way.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil

from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json

MANIFEST = "manifest.json"

_FILES = (".gguf", ".onnx", ".safetensors", ".bin", ".jsonl")
"""Endings of files that users of other programs expect where a folder is written."""

_WRONG_PLACE = (errno.ENOTDIR, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` (text as UTF-8) in one step, durably. Raises `DiskError`."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise disk_error(path, error) from error
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, replacing an older one, when the block succeeds.

    When the block fails, the folder and any parent folders made for it are removed, and an older `path` is untouched.
    Raises `DiskError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        _remove_left_over(path)
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        replace_folder(temporary, path)
    except BrokenPipeError:  # not a disk error: the reader of standard output has closed the pipe
        raise
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # a folder that is not empty stays
            for folder in made:
                folder.rmdir()


def _remove_left_over(path: Path) -> None:
    """Remove the temporary folders that killed processes, or this one, left for `path`."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        process = left.name.split(".")[-2]
        if process == str(os.getpid()) or (process.isdigit() and not psutil.pid_exists(int(process))):
            shutil.rmtree(left, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Rename the folder `new` to `path`; an existing folder is renamed first and removed afterwards."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, where the system can (Windows cannot)."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def checksum_file(path: Path) -> str:
    """XXH3 hash (128 bits) of a file's content: faster than SHA-256; detects damage, but not forgery."""
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `manifest.json`: `content`, and the size and SHA-256 of every other file below `folder`."""
    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    write_json(folder / MANIFEST, {**content, "files": files})


def read_manifest(folder: Path, *, verify: bool = True) -> dict[str, Any]:
    """Read `manifest.json`, and check every file it names unless `verify` is off.

    Raises `TinyslmError` naming the first file that is missing, truncated or altered.
    """
    manifest = read_json(folder / MANIFEST, remedy=f"Restore it from a copy, or delete {folder} and make it again.")
    if verify:
        for name, expected in listed_files(folder, manifest).items():
            check_file(folder, name, expected)
    return manifest


def listed_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The size and SHA-256 of each file. Raises `TinyslmError` for a manifest without them."""
    files = manifest.get("files")
    whole = isinstance(files, dict) and all(
        isinstance(entry, dict) and entry.keys() >= {"bytes", "sha256"} for entry in files.values()
    )
    if not whole:
        raise TinyslmError(
            f"{folder / MANIFEST} is damaged: it does not say what the files should be.",
            f"Restore it from a copy, or delete {folder} and make it again.",
        )
    listed: dict[str, dict[str, Any]] = files or {}
    return listed


def check_file(folder: Path, name: str, expected: Mapping[str, Any]) -> None:
    """Raise `TinyslmError` if a file that a manifest lists is outside `folder`, missing, truncated or altered."""
    path = folder / name
    remedy = f"Restore {name} from a copy, or delete {folder} and make it again."
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise TinyslmError(f"{folder / MANIFEST} names a file outside its folder: {name!r}.", remedy)
    if not path.is_file():
        raise TinyslmError(f"{path} is missing.", remedy)
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise TinyslmError(f"{path} is damaged: it has {size} bytes instead of {expected['bytes']}.", remedy)
    if sha256_file(path) != expected["sha256"]:
        raise TinyslmError(f"{path} is damaged: its checksum is not the one recorded when it was written.", remedy)


def check_file_place(path: Path) -> None:
    """Raise `DiskError`, before long work, if the file `path` cannot be written at its end, as it is a folder or worse.

    See `check_place`.
    """
    check_place(path)
    if path.is_dir():
        raise disk_error(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))


def check_place(path: Path) -> None:
    """Raise `DiskError`, before long work, if `path` cannot be written at its end.

    The check makes and removes a folder in the nearest existing parent.
    """
    try:
        path.exists()  # fails for a name that is too long and for a parent without permission
        above = next(folder for folder in path.absolute().parents if folder.exists())
        Path(mkdtemp(prefix=f".{os.getpid()}.", dir=above)).rmdir()
    except OSError as error:
        raise disk_error(path, error) from None


def check_folder(path: Path) -> None:
    """Raise `TinyslmError`, before long work, if the folder `path` cannot be written, or is called like a file.

    See `check_place`.
    """
    check_place(path)
    if path.suffix.lower() in _FILES:
        raise TinyslmError(
            f"{path}: a folder is written, and this is the name of a file.", f"Give a folder: {path.stem}"
        )
    if path.is_file():
        raise disk_error(path, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))


def in_home(given: str | Path) -> Path:
    """Expand a leading `~`; raises `TinyslmError` if there is no such home folder."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise TinyslmError(f"{given}: there is no such home folder.", "Write the whole path, without ~.") from None


def free_folder(out: Path) -> Path:
    """The first of `out`, `out-2`, `out-3`, ... that does not exist."""
    number, free = 1, out
    while free.exists():
        number += 1
        free = out.with_name(f"{out.name}-{number}")
    return free


class DiskError(TinyslmError):
    """A file or folder could not be written."""


def disk_error(path: Path, error: OSError) -> DiskError:
    """The `DiskError` for an `OSError` while writing `path`."""
    remedy = "Free some space there, then run the same command again: what was saved is intact."
    if error.errno == errno.EISDIR:
        remedy = f"A file is written here, and this is a folder: give a file in it, such as {path / 'NAME'}."
    elif error.errno in (errno.EEXIST, errno.ENOTDIR) and not path.is_dir():
        remedy = "A folder is needed here, and there is a file: give another path."
    elif error.errno in _WRONG_PLACE:
        remedy = "Nothing can be written at this place: give another path, in a folder of your own."
    return DiskError(f"Could not write {path}: {error.strerror or error}.", remedy)
