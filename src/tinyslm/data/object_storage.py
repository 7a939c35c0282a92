"""Files in object storage, `s3://BUCKET/KEY`: find, read and write them through pyarrow.

Credentials and region are found as by other programs for S3: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`,
`~/.aws/credentials`, or the role of an EC2 host. `AWS_ENDPOINT_URL` is the address of another service than Amazon's.
"""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from tinyslm.core.errors import TinyslmError, require_extra

SCHEME = "s3://"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
TIMEOUT = 10
"""Seconds without an answer or any data after which a request is tried again, twice."""
BLOCK = 1 << 23  # bytes of a request
_REASON = re.compile(r".*?AWS Error (\w+).*? operation: (.*?)( \(Request ID.*)?", re.DOTALL)


class StorageError(TinyslmError):
    """Object storage did not answer, or refused."""


class NotStored(StorageError):
    """There is no such file or bucket."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file. changed: when it was written last, in nanoseconds."""

    url: str
    size: int
    changed: int


def is_remote(path: str) -> bool:
    """Whether a path is the address of something in object storage."""
    return path.startswith(SCHEME)


def find_stored(url: str) -> list[Stored]:
    """The file `url`, those that match a pattern, or all below a prefix, sorted by the parts of their names.

    Raises `TinyslmError` if there is no such file, prefix or bucket.
    """
    files, path = _opened(url)
    from pyarrow.fs import FileSelector, FileType

    with _reporting(url):
        info = files.get_file_info(path)
        if info.type == FileType.File:
            return [_stored(info)]
        parts = path.split("/")
        fixed = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        if info.type == FileType.NotFound and fixed == len(parts):
            raise FileNotFoundError
        below = "/".join(parts[:fixed])
        found = files.get_file_info(FileSelector(below, recursive=True))
    chosen = [one for one in found if one.type == FileType.File]
    if fixed < len(parts):
        chosen = [one for one in chosen if _matches(one.path.split("/")[fixed:], parts[fixed:])]
        if not chosen:
            raise TinyslmError(f"Nothing matches {url}.", "Check the bucket and the pattern.")
    return [_stored(one) for one in sorted(chosen, key=lambda one: one.path.split("/"))]


def open_stored(url: str) -> BinaryIO:
    """Open a file. Raises `TinyslmError` if there is none. Reading raises `OSError`: see `storage_error`."""
    files, path = _opened(url)
    with _reporting(url):
        return cast(BinaryIO, io.BufferedReader(files.open_input_file(path), BLOCK))


def read_blocks(url: str) -> Iterator[bytes]:
    """Yield the content of a file. Raises `TinyslmError` if there is none, or it cannot be read."""
    with open_stored(url) as stream:
        while True:
            with _reporting(url):
                block = stream.read(BLOCK)
            if not block:
                return
            yield block


def upload(file: Path, url: str) -> None:
    """Write a file. Raises `TinyslmError`."""
    files, path = _opened(url)
    with file.open("rb") as source, _reporting(url), files.open_output_stream(path, compression=None) as stream:
        while block := source.read(BLOCK):
            stream.write(block)


def stored_names(url: str) -> list[str]:
    """The names of all files below a prefix, which may be missing. Raises `TinyslmError` if there is no such bucket."""
    files, path = _opened(url)
    from pyarrow.fs import FileSelector, FileType

    bucket = path.partition("/")[0]
    with _reporting(SCHEME + bucket):
        if files.get_file_info(bucket).type == FileType.NotFound:
            raise FileNotFoundError
        found = files.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    return [one.path.removeprefix(f"{path}/") for one in found if one.type == FileType.File]


def delete(urls: Sequence[str]) -> None:
    """Delete files."""
    for url in urls:
        files, path = _opened(url)
        with _reporting(url):
            files.delete_file(path)


def storage_error(url: str, error: Exception) -> StorageError:
    """The `StorageError` for what pyarrow raises."""
    found = _REASON.fullmatch(str(error))
    kind, reason = (found[1], found[2]) if found else ("", str(error))
    reason = " ".join(reason.rpartition("Details: ")[2].split())[:300].rstrip(".")
    if kind == "NETWORK_CONNECTION":
        where = _endpoint() or "Amazon S3"
        remedy = f"Check the network, and the address of the service ({ENDPOINTS[1]}); then run the command again."
        return StorageError(f"Could not reach {where} for {url}: {reason}.", remedy)
    if kind in ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "MISSING_AUTHENTICATION_TOKEN"):
        remedy = "Give credentials that may use it: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials."
        return StorageError(f"Access to {url} was denied: {kind.lower().replace('_', ' ')}.", remedy)
    if kind == "NO_SUCH_BUCKET" or isinstance(error, FileNotFoundError):
        return NotStored(f"{url} does not exist.", "Check the bucket and the key.")
    remedy = "Check the address, the credentials and the network."
    return StorageError(f"Could not use {url}: {reason or kind}.", remedy)


@contextmanager
def _reporting(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(url, error) from error


def _stored(info: Any) -> Stored:
    return Stored(SCHEME + info.path, info.size, info.mtime_ns or 0)


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    path = url.removeprefix(SCHEME).rstrip("/")
    bucket = path.partition("/")[0]
    if not bucket:
        raise TinyslmError(f"{url} names no bucket.", f"For instance: {SCHEME}BUCKET/FOLDER")
    with _reporting(url):
        return _file_system(_endpoint(), bucket), path


def _endpoint() -> str:
    return next(filter(None, map(os.environ.get, ENDPOINTS)), "")


@cache
def _file_system(endpoint: str, bucket: str) -> Any:
    try:
        from pyarrow import fs
    except ImportError:
        raise require_extra("documents", "Object storage") from None
    settings: dict[str, Any] = {"connect_timeout": TIMEOUT, "request_timeout": TIMEOUT, "allow_delayed_open": True}
    if endpoint:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        settings |= {"endpoint_override": endpoint, "region": region}
    else:
        settings |= {"region": fs.resolve_s3_region(bucket)}
    return fs.S3FileSystem(**settings)


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the parts of a key match a pattern as the paths of files do: `**` are any folders, hidden ones not."""
    if not patterns or not parts:
        return not parts and all(pattern == "**" for pattern in patterns)
    hidden = parts[0].startswith(".") and not patterns[0].startswith(".")
    if patterns[0] == "**":
        return _matches(parts, patterns[1:]) or (not hidden and _matches(parts[1:], patterns))
    return not hidden and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])
