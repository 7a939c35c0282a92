"""A file of JSON lines that only grows, by one process at a time; after a kill, its torn end is cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tinyslm.core.files import disk_error
from tinyslm.core.locks import claim, in_use, is_at

Line = dict[str, Any]

BLOCK = 1 << 20  # bytes read at a time


class Journal:
    """Lines that stay once they are written: iterate over them, `append` more. Use it in a `with` block.

    A line that was being written when the process was killed, and whatever may follow it, is removed on opening.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file; raises `TinyslmError` when another process has it, or it cannot be written."""
        self.path = path
        try:
            self._file = path.open("ab+", buffering=0)
        except OSError as error:
            raise disk_error(path, error) from None
        self.last: Line | None = None
        try:
            claim(self._file.fileno(), path)
            if not self._is_at_its_path():  # its former holder has removed it, and a third process may have made it
                raise in_use(path)
            self.count = self._repair()
        except OSError as error:
            self._file.close()
            raise disk_error(path, error) from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Line]:
        """The lines so far."""
        return map(json.loads, self._lines())

    def append(self, line: Line) -> None:
        """Write one line more; it survives this process from here on."""
        data = as_json(line) + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise disk_error(self.path, error) from error
        self.count += 1
        self.last = line

    def sync(self) -> None:
        """Flush it to the disk: it survives a power cut, too."""
        os.fsync(self._file.fileno())

    def clear(self) -> None:
        """Forget all lines; nobody else gets at the file in between."""
        try:
            self._file.truncate(0)
        except OSError as error:
            raise disk_error(self.path, error) from error
        self.count, self.last = 0, None

    def remove(self) -> None:
        """Remove the file, unless another one lies there by now."""
        if self._is_at_its_path():
            self.path.unlink(missing_ok=True)

    def _repair(self) -> int:
        """Cut off what is no whole line; returns how many lines there are."""
        count = end = 0
        for line in self._lines():
            if (value := _whole(line)) is None:
                break
            self.last = value
            end += len(line)
            count += 1
        if end < os.fstat(self._file.fileno()).st_size:
            self._file.truncate(end)
        return count

    def _lines(self) -> Iterator[bytes]:
        """The lines of the file that is locked, whatever lies at its path by now; the last one may be torn."""
        place, rest = 0, b""
        while block := os.pread(self._file.fileno(), BLOCK, place):
            place += len(block)
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                yield line + b"\n"
        if rest:
            yield rest

    def _is_at_its_path(self) -> bool:
        return is_at(self._file.fileno(), self.path)


def as_json(value: Any) -> bytes:
    """A value on one line, as UTF-8; halves of surrogate pairs, which UTF-8 cannot have, stay escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _whole(line: bytes) -> Line | None:
    """The object on a line that was written to its end."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
