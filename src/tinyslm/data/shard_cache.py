"""Shards in object storage, whose files are copied into a cache folder when they are read.

The folder `shards/HASH` of the user's cache, named after the hash of the manifest, has the manifest and the tokenizer,
the token files and tables that were read, and the address of all in `ORIGIN`. A file appears there when it is complete
and has the right checksum. All processes of this machine share the files; the least recently used ones are removed
when the files of all shards exceed `LIMIT`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, check_file, disk_error, listed_files, read_manifest, sync_file, write_atomic
from tinyslm.core.locks import waiting_lock
from tinyslm.core.quantities import size
from tinyslm.data.object_storage import NotStored, delete, is_remote, read_blocks, stored_names, upload
from tinyslm.hardware.compiling import private, user_cache

KIND = "shards"
ORIGIN = "origin"
LIMIT = "TINYSLM_CACHE_GB"
"""The environment variable for the size of all cached files, in GB."""
USUAL_LIMIT = 50.0
LATER = (".bin", ".npy")
"""Suffixes of the files that are copied when they are read."""

_NAME = re.compile(r"manifest\.json|tokenizer/.+|(train|valid)-\d{5}\.(bin|documents\.npy)")
HALF = ".half"
"""Suffix of a file that is being copied."""


def data_folder(place: str | Path, base: Path = Path()) -> Path:
    """The folder at `place`, which is relative to `base`; for the address of shards, their cache folder.

    Raises `TinyslmError` if there are no shards at that address.
    """
    if not is_remote(str(place)):
        return base / place
    folder = cached_shards(str(place))
    if folder is None:
        raise TinyslmError(f"{place} holds no shards.", "Check the bucket and the folder.")
    return folder


def origin_of(folder: Path) -> str:
    """The address of the shards in a cache folder; "" for another folder."""
    file = folder / ORIGIN
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def place_of(folder: Path) -> str:
    """The place of data for `data_folder`: an address that holds on all hosts, or the folder's path."""
    return origin_of(folder) or str(folder)


def cached_shards(url: str) -> Path | None:
    """The cache folder of the shards at an address; None if there are none. Copies their manifest and tokenizer."""
    url = url.rstrip("/")
    content = stored_manifest(url)
    if content is None:
        return None
    folder = _cache() / hashlib.sha256(content).hexdigest()[:32]
    manifest = json.loads(content)
    with _alone():
        for name, expected in listed_files(folder, manifest).items():
            if not name.endswith(LATER) and not (folder / name).is_file():
                copy(folder, url, name, expected)
        write_atomic(folder / ORIGIN, url)
        write_atomic(folder / MANIFEST, content)
    return folder


def stored_manifest(url: str) -> bytes | None:
    """The manifest of the shards at an address; None if there are none."""
    try:
        content = b"".join(read_blocks(f"{url}/{MANIFEST}"))
    except NotStored:
        return None
    try:
        kind = json.loads(content).get("kind")
    except (ValueError, AttributeError):  # a text of the user
        return None
    return content if kind == KIND else None


def check_stored(url: str) -> None:
    """Raise `TinyslmError` unless an address holds nothing but shards, or what an interrupted upload of some left."""
    names = stored_names(url)
    if (MANIFEST in names and stored_manifest(url) is None) or not all(map(_NAME.fullmatch, names)):
        raise TinyslmError(f"{url} holds something else than shards.", "Give an address where there is nothing yet.")


def store_shards(folder: Path, url: str) -> None:
    """Replace what is at an address by a shards folder. Readers find all of the new files, or no shards."""
    old = set(stored_names(url))
    delete([f"{url}/{MANIFEST}"] if MANIFEST in old else [])
    names = [*listed_files(folder, read_manifest(folder, verify=False)), MANIFEST]
    for name in names:
        upload(folder / name, f"{url}/{name}")
    delete([f"{url}/{name}" for name in old.difference(names)])


class ShardCache:
    """The files of one cache folder as arrays."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._files = listed_files(folder, manifest)
        self._url = origin_of(folder)
        self._open: dict[str, NDArray[Any]] = {}

    def check(self) -> None:
        """Remove damaged files, so that they are copied again."""
        for name, expected in self._files.items():
            try:
                if (self._folder / name).exists():
                    check_file(self._folder, name, expected)
            except TinyslmError:
                (self._folder / name).unlink(missing_ok=True)

    def bytes_of(self, name: str) -> int:
        """The size of a file. Raises `TinyslmError` if the manifest does not list it."""
        if name not in self._files:
            raise _damaged(f"{self._url}/{MANIFEST} does not list {name}")
        return int(self._files[name]["bytes"])

    def array(self, name: str, load: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
        """The content of a file, which is copied if it is not here, or not any more."""
        file = self._folder / name
        if name not in self._open or not _used(file):
            with _alone():
                if not _used(file):
                    copy(self._folder, self._url, name, self._files[name])
                self._open[name] = load(file)
                # Removed files take space until they are closed.
                self._open = {name: array for name, array in self._open.items() if (self._folder / name).exists()}
        return self._open[name]

    @property
    def warning(self) -> str:
        """A sentence if not all files fit into the cache; else empty."""
        total, limit = sum(file["bytes"] for file in self._files.values()), _limit()
        if total <= limit:
            return ""
        return (
            f"{self._url} has {size(total)}, and the cache holds {size(limit)}: files will be copied again and again. "
            f"Raise the limit: {LIMIT}={math.ceil(total / 1e9)}"
        )


class CachedArray:
    """An array of known length in a file of a cache."""

    def __init__(self, cache: ShardCache, name: str, length: int, load: Callable[[Path], NDArray[Any]]) -> None:
        self._cache, self._name, self._length, self._load = cache, name, length, load

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: Any) -> Any:
        """Read a part of it. Raises `TinyslmError` if the file cannot be copied, or has another length."""
        array = self._cache.array(self._name, self._load)
        if len(array) != self._length:
            raise _damaged(f"{self._name} has {len(array)} rows instead of {self._length}")
        return array[key]


def copy(folder: Path, url: str, name: str, expected: Mapping[str, Any]) -> None:
    """Copy a file into a cache folder; it appears when it is complete and correct. The caller holds the lock.

    Raises `TinyslmError` if it cannot be read or written, or is not the file that the manifest lists.
    """
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise _damaged(f"{url}/{MANIFEST} names a file outside its folder: {name!r}")
    temporary = path.with_name(f"{path.name}{HALF}")
    digest, length = hashlib.sha256(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(expected["bytes"])
        with temporary.open("wb") as file:
            for block in read_blocks(f"{url}/{name}"):
                file.write(block)
                digest.update(block)
                length += len(block)
        if (length, digest.hexdigest()) != (expected["bytes"], expected["sha256"]):
            raise _damaged(f"{url}/{name} is not the file that {MANIFEST} lists: its size or checksum differs")
        sync_file(temporary)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _damaged(problem: str) -> TinyslmError:
    return TinyslmError(f"{problem}.", "Upload the shards again, or make them again with: tinyslm data prepare")


def _make_room(needed: int) -> None:
    """Remove the least recently used files until `needed` bytes fit, and what killed processes left."""
    files = [file for file in _cache().glob("*/*") if file.name.endswith((*LATER, HALF))]
    found = sorted((not file.name.endswith(HALF), file.stat().st_mtime_ns, file) for file in files)
    total, limit = needed + sum(file.stat().st_size for *_, file in found), _limit()
    for whole, _, file in found:
        if whole and total <= limit:
            break
        total -= file.stat().st_size
        file.unlink()


def _used(file: Path) -> bool:
    """Whether a file exists; marks it as used now."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True


def _cache() -> Path:
    return private(user_cache() / "shards")


def _alone() -> AbstractContextManager[None]:
    """The lock on changing the cache."""
    return waiting_lock(_cache() / ".lock")


def _limit() -> float:
    """Bytes that the cached files may take."""
    given = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(given or USUAL_LIMIT)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < math.inf:
        raise TinyslmError(f"{LIMIT}={given} is not a number of gigabytes.", f"For instance: {LIMIT}=100")
    return gigabytes * 1e9
