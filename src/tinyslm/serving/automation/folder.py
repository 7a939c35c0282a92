"""Which files of a watched folder are there, whole, and not done yet. Decided without clocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import checksum_file
from tinyslm.serving.automation.journal import Journal, Line

UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", ".swp", "~")
"""Endings of names that programs give to files which they are still writing."""

State = Literal["done", "failed", "aside"]


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written to."""

    size: int
    mtime_ns: int
    inode: int


def files_in(folder: Path, patterns: tuple[str, ...] = ()) -> dict[str, Stamp]:
    """The files directly in a folder, by name; `patterns`: names must match one of them.

    Not among them: hidden and unfinished files, folders, pipes, and links that lead out of the folder.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        if patterns and not any(fnmatchcase(path.name, pattern) for pattern in patterns):
            continue
        if (stamp := stamp_of(path)) is not None:
            found[path.name] = stamp
    return found


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; `None` for what is no file to be taken."""
    if path.name.startswith(".") or path.name.lower().endswith(UNFINISHED):
        return None
    try:
        if not path.is_file() or (path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve())):
            return None
        status = path.stat()
    except OSError:  # it has just gone, or may not be looked at
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


class Looks:
    """A file is whole when two looks, one after the other, find it the same."""

    def __init__(self) -> None:
        self._before: Mapping[str, Stamp] = {}

    def whole(self, seen: Mapping[str, Stamp]) -> dict[str, Stamp]:
        """Those of the files seen now that have not changed since the last look."""
        before, self._before = self._before, dict(seen)
        return {name: stamp for name, stamp in seen.items() if before.get(name) == stamp}


@dataclass(frozen=True)
class Past:
    """What became of a file: its last state, after so many tries, with an error where it failed."""

    name: str
    stamp: Stamp
    check: str
    state: State
    tries: int = 1
    error: str = ""


class Pasts:
    """What became of each file, kept in a journal."""

    def __init__(self, journal: Journal, folder: Path, told: Line) -> None:
        """`told`: what decides results; raises `TinyslmError` when the journal was begun with something else."""
        self._journal, self._folder = journal, folder
        self._pasts: dict[str, Past] = {}
        for number, line in enumerate(journal):
            if not number:
                _check_same(line, told, journal.path.parent)
            else:
                past = _read_past(line, journal.path)
                self._pasts[past.name] = past
        if not journal.count:
            journal.append(told)

    def due(self, files: Mapping[str, Stamp]) -> dict[str, int]:
        """The files that are to be done, and how often each was tried in vain before."""
        found = {}
        for name, stamp in files.items():
            past = self._pasts.get(name)
            if past is None:
                found[name] = 0
            elif past.stamp != stamp:
                if not self._touched(past, stamp):
                    found[name] = 0
            elif past.state == "failed":
                found[name] = past.tries
        return found

    def note(self, past: Past) -> None:
        """Something became of a file."""
        self._pasts[past.name] = past
        self._journal.append(asdict(past))

    def _touched(self, past: Past, stamp: Stamp) -> bool:
        """Whether a file that looks changed holds what it did; a retry that was due is due then, too."""
        if past.state == "failed" or past.stamp.size != stamp.size:
            return False
        if checksum_file(self._folder / past.name) != past.check:
            return False
        self.note(replace(past, stamp=stamp))
        return True


def _read_past(line: Line, path: Path) -> Past:
    try:
        return Past(**{**line, "stamp": Stamp(**line["stamp"])})
    except (TypeError, LookupError):
        raise TinyslmError(f"{path} is damaged.", "Restore it from a copy, or give another --out.") from None


def _check_same(before: Line, now: Line, out: Path) -> None:
    if changed := list(_differences(before, now)):
        raise TinyslmError(
            f"{out} holds results of other settings: {', '.join(changed)}.",
            "Give the settings as they were, or another --out.",
        )


def _differences(before: Line, now: Line) -> Iterator[str]:
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            yield key
