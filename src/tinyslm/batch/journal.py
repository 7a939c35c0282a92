"""The state of a job in an SQLite database: what was committed survives a kill at any moment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.locks import Lock

Record = dict[str, Any]

_APPLICATION_ID = 0x74736C6D
"""Marks our databases."""

_SETUP = f"""
PRAGMA application_id = {_APPLICATION_ID};
CREATE TABLE job (settings TEXT NOT NULL);
CREATE TABLE records (key PRIMARY KEY, value TEXT NOT NULL);
"""


class Journal:
    """The settings of a job and its records, in the order of insertion. Use it in a `with` block.

    Only one process at a time can open a journal. A record is committed when `put` returns: it survives a crash of
    this process; after a power failure the last ones may be missing. A journal without settings is deleted at the end
    of the block.

    Attributes: `settings`: those given to `begin`, `None` before. `count`: how many records there are.
    """

    def __init__(self, path: Path, target: Path) -> None:
        """target: the output of the job, which the error message names if another process writes it.

        Raises `TinyslmError` if another process has the journal open, and for a file that is not a journal.
        """
        self.path = path
        with ExitStack() as stack, _sqlite_errors(path):
            stack.enter_context(Lock(path.with_name(f".{path.name.removeprefix('.')}.lock"), target))
            self._database = sqlite3.connect(path)
            stack.callback(self._database.close)
            self._set_up()
            stored = self._database.execute("SELECT settings FROM job").fetchone()
            self.settings: Record | None = json.loads(stored[0]) if stored else None
            (self.count,) = self._database.execute("SELECT count(*) FROM records").fetchone()
            self._resources = stack.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._resources:
            self._database.close()
            if self.settings is None:
                self.path.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[tuple[Any, Record]]:
        """The keys and records."""
        with _sqlite_errors(self.path):
            for key, value in self._database.execute("SELECT key, value FROM records ORDER BY rowid"):
                yield key, json.loads(value)

    def begin(self, settings: Record) -> None:
        """Delete all records and replace the settings, in one transaction."""
        with _sqlite_errors(self.path), self._database:
            self._database.execute("DELETE FROM records")
            self._database.execute("DELETE FROM job")
            self._database.execute("INSERT INTO job VALUES (?)", (json.dumps(settings),))
        self.settings, self.count = settings, 0

    def put(self, key: str | int, record: Record) -> None:
        """Insert a record, or replace the one with this key."""
        with _sqlite_errors(self.path), self._database:
            self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", (key, json.dumps(record)))
        self.count += 1

    def last(self) -> Record | None:
        with _sqlite_errors(self.path):
            found = self._database.execute("SELECT value FROM records ORDER BY rowid DESC LIMIT 1").fetchone()
        return json.loads(found[0]) if found else None

    def _set_up(self) -> None:
        # An exclusive lock needs no shared memory; with a write-ahead log, a commit is one write without a flush.
        for pragma in ("locking_mode = EXCLUSIVE", "synchronous = NORMAL"):
            self._database.execute(f"PRAGMA {pragma}")
        (owner,) = self._database.execute("PRAGMA application_id").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != _APPLICATION_ID and tables:
            raise sqlite3.DatabaseError("it belongs to another program")
        self._database.execute("PRAGMA journal_mode = WAL")
        if not tables:
            self._database.executescript(_SETUP)


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    """Convert errors of SQLite to `TinyslmError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        remedy = "Free some space there, or choose another place for the output, then run the same command again."
        raise TinyslmError(f"Could not use {path}: {error}.", remedy) from error
    except sqlite3.DatabaseError as error:
        raise TinyslmError(
            f"{path} is not a journal of tinyslm, or damaged: {error}.", "Give another --out."
        ) from error
