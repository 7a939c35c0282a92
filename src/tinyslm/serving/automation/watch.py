"""New files of a folder become results in another one, each of them whole or not at all.

What became of each file stands in `.watch.jsonl` in the output folder, so that a restart does nothing twice. A file
that fails is tried again when the folder is looked at the next time; after its last try it is put aside: a note in
`failed/` says why, and it is left alone until it changes. The files themselves are only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import check_place, checksum_file, disk_error, sync_file, write_json
from tinyslm.core.text_files import byte_order_mark
from tinyslm.serving.automation.asking import Asking, told, with_attempt
from tinyslm.serving.automation.folder import Looks, Past, Pasts, Stamp, State, files_in, stamp_of
from tinyslm.serving.automation.journal import Journal, as_json
from tinyslm.serving.automation.plain_rows import answer_rows
from tinyslm.serving.automation.results import Done
from tinyslm.serving.automation.rows import LONGEST_LINE, Row, Rows, kind_of

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine

JOURNAL = ".watch.jsonl"
FAILED = "failed"
EACH = ("file", "line")


@dataclass(frozen=True)
class Watch:
    """What is to be done: files of `folder` whose names match one of `patterns` (all, without any) to `out`.

    each: a request is a "file" (its columns: file, text) or a "line" of one (also name; a row of .jsonl, .csv and
    .parquet files has its own columns). tries: how often a file may fail before it is put aside.
    """

    folder: Path
    out: Path
    asking: Asking
    each: str = "file"
    patterns: tuple[str, ...] = ()
    tries: int = 3
    concurrency: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.each not in EACH:
            raise TinyslmError(f'A request cannot be each "{self.each}".', f"Allowed: {', '.join(EACH)}.")
        if not self.folder.is_dir():
            raise TinyslmError(f"There is no folder {self.folder}.", "Check the path.")
        if self.folder.resolve() == self.out.resolve():
            raise TinyslmError("Results cannot go to the folder that is watched.", "Give another --out.")


@dataclass(frozen=True)
class Outcome:
    """What became of a file in one try: its state, how many rows it had, how many of these have an error."""

    name: str
    state: str
    rows: int = 0
    errors: int = 0
    error: str = ""


@dataclass(frozen=True)
class FileRow(Row):
    """A row of a file. broken: the file could not be read up to its end."""

    file: str = ""
    broken: bool = False


def watch_folder(engine: Engine, watch: Watch, wait: Callable[[], bool], *, once: bool = False) -> Iterator[Outcome]:
    """What becomes of files, as it happens. `wait` passes the time between looks; it ends this by returning False.

    once: two looks, all that is to be done, and no more. Raises `TinyslmError` when the output folder cannot be used.
    """
    check_place(watch.out / JOURNAL)
    _make(watch.out / FAILED)
    with Journal(watch.out / JOURNAL) as journal:
        for left_over in watch.out.glob(".*.tmp"):  # of a killed process; a running one would hold the journal's lock
            left_over.unlink()
        pasts = Pasts(journal, watch.folder, {**told(watch.asking), "each": watch.each})
        looks = Looks()
        looks.whole(files_in(watch.folder, watch.patterns))
        while wait():
            whole = looks.whole(files_in(watch.folder, watch.patterns))
            while due := pasts.due(whole):
                for outcome in _work(engine, watch, {name: whole[name] for name in due}, due, pasts):
                    yield outcome
                    if outcome.state == "changed":
                        del whole[outcome.name]
                if not once:
                    break
            if once:
                return


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error


def _work(
    engine: Engine, watch: Watch, files: dict[str, Stamp], tries: dict[str, int], pasts: Pasts
) -> Iterator[Outcome]:
    """One try of each file; those that were tried as often go side by side."""
    for tried, group in groupby(sorted(files, key=lambda name: tries[name]), key=lambda name: tries[name]):
        names = list(group)
        checks: dict[str, str] = {}
        rows = (row for name in names for row in _rows(watch, name, checks))
        asking = with_attempt(watch.asking, tried)
        answered = answer_rows(engine, asking, rows, (), watch.concurrency, strict=False)
        for name, done in groupby(answered, key=_file):
            yield _settle(watch, Past(name, files[name], checks[name], "done", tried + 1), done, pasts)


def _file(done: Done) -> str:
    assert isinstance(done.row, FileRow)
    return done.row.file


def _rows(watch: Watch, name: str, checks: dict[str, str]) -> Iterator[FileRow]:
    """The requests that a file is: one at least, and a broken one at its end if it cannot be read.

    Notes its checksum beforehand: if it changes from now on, that is noticed.
    """
    path, number = watch.folder / name, 0
    checks[name] = ""
    try:
        checks[name] = checksum_file(path)
        if watch.each == "file":
            yield FileRow(1, {"file": name, "text": _text(path)}, file=name)
            return
        for row in Rows(str(path), kind_of(path) or "text"):
            number = row.number
            yield FileRow(number, {"file": name, **row.values}, row.problem, file=name)
        if not number:
            raise TinyslmError("the file is empty", "")
    except (TinyslmError, OSError) as error:
        problem = error.problem if isinstance(error, TinyslmError) else f"it could not be read: {error.strerror}"
        yield FileRow(number + 1, {"file": name}, problem, file=name, broken=True)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LONGEST_LINE + 1)
    if len(data) > LONGEST_LINE:
        raise TinyslmError(f"the file is longer than {LONGEST_LINE} bytes", "")
    try:
        encoding, start = byte_order_mark(data)
        text = data[start:].decode(encoding or "utf-8")
    except UnicodeDecodeError:
        raise TinyslmError("the file is not UTF-8 text", "") from None
    if not text.strip():
        raise TinyslmError("the file is empty", "")
    return text


def _settle(watch: Watch, past: Past, done: Iterator[Done], pasts: Pasts) -> Outcome:
    """Write the results of a file, or note why there are none."""
    place = watch.out / f"{past.name}.{'json' if watch.each == 'file' else 'jsonl'}"
    temporary = place.with_name(f".{place.name}.tmp")
    rows, errors, error = _write(watch, done, temporary)
    if stamp_of(watch.folder / past.name) != past.stamp:
        temporary.unlink()
        return Outcome(past.name, "changed", error="it was changed meanwhile, or has gone")
    note = watch.out / FAILED / f"{past.name}.json"
    state: State = "done" if not error else "failed" if past.tries < watch.tries else "aside"
    if state == "done":
        sync_file(temporary)
        temporary.replace(place)
        with suppress(FileNotFoundError):
            note.unlink()
    else:
        temporary.unlink()
    if state == "aside":
        write_json(note, {"file": past.name, "error": error, "tries": past.tries})
    pasts.note(replace(past, state=state, error=error))
    return Outcome(past.name, state, rows, errors, error)


def _write(watch: Watch, done: Iterator[Done], temporary: Path) -> tuple[int, int, str]:
    """Write results to a file; returns how many rows and errors there were, and why the file failed, if it did.

    A file that is one request fails with it; one of many lines fails only if it cannot be read.
    """
    rows = errors = 0
    error = ""
    try:
        with temporary.open("wb") as file:
            for one in done:
                assert isinstance(one.row, FileRow)
                rows, errors = rows + 1, errors + one.failed
                if one.failed and (watch.each == "file" or one.row.broken):
                    error = str(one.result["error"])
                result = one.result
                if watch.each == "file":
                    result = {"file": one.row.file, **{key: value for key, value in result.items() if key != "row"}}
                file.write(as_json(result) + b"\n")
    except OSError as problem:
        raise disk_error(temporary, problem) from problem
    return rows, errors, error
