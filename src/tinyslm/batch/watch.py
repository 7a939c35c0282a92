"""Answer each new file of a folder as a batch of its own; its results appear in another folder, complete or not at all.

The state of each file is kept in a journal in the output folder: after a restart, nothing is done twice. A file that
fails is tried again after the next scan; after its last attempt it is set aside: a note in `failed/` gives the reason,
and it is ignored until it changes. The input files are only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Literal

from tinyslm.batch.answering import RowResult, answer_rows
from tinyslm.batch.generators import Result
from tinyslm.batch.journal import Journal
from tinyslm.batch.output import write_lines
from tinyslm.batch.prompts import PromptTemplate
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import check_place, checksum_file, disk_error, sync_file, write_json
from tinyslm.core.text_files import read_small_text
from tinyslm.data.rows import LONGEST_LINE, Row, Rows, kind_of
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.inference.engine import Engine

JOURNAL = ".watch.journal"
FAILED = "failed"
EACH = ("file", "line")
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", ".swp", "~")
"""Suffixes of files that a program is still writing."""

State = Literal["done", "failed", "aside", "changed"]


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written to."""

    size: int
    mtime_ns: int
    inode: int


class Follower:
    """Reads the files that are each one request, and learns of their results; this one reads text, and no more."""

    def read(self, path: Path) -> str:
        """The text of a file. Raises `TinyslmError` for one that cannot be used."""
        text = read_small_text(path, "--each file", LONGEST_LINE)
        if not text.strip():
            raise TinyslmError("the file is empty", "")
        return text

    def add(self, name: str, stamp: Stamp, result: Result) -> None:
        """Called with the result of a file before it is published; after an interruption, again."""

    def report(self) -> None:
        """Called when all new files have been answered."""


@dataclass(frozen=True)
class Watch:
    """Answer the files of `folder` that match one of `patterns` (without patterns: all) into the folder `out`.

    each: a request is a "file" (its columns: file, text) or a "line" (also name; a row of .jsonl, .csv and .parquet
    files has its own columns). tries: attempts before a file is set aside. follower: see `Follower`; it takes
    whole files only. Raises `TinyslmError` for folders that cannot be used.
    """

    folder: Path
    out: Path
    template: PromptTemplate
    each: str = "file"
    patterns: tuple[str, ...] = ()
    tries: int = 3
    concurrency: int = 32
    follower: Follower = field(default_factory=Follower)

    def __post_init__(self) -> None:
        if self.each not in EACH:
            raise TinyslmError(f'A request cannot be each "{self.each}".', f"Allowed: {', '.join(EACH)}.")
        if self.each != "file" and type(self.follower) is not Follower:
            raise TinyslmError("A pack watches whole files.", "Give --each file.")
        if not self.folder.is_dir():
            raise TinyslmError(f"There is no folder {self.folder}.", "Check the path.")
        if self.folder.resolve() == self.out.resolve():
            raise TinyslmError("Results cannot go to the folder that is watched.", "Give another --out.")


@dataclass(frozen=True)
class Outcome:
    """The outcome of one attempt at a file: its state, its number of rows, and how many of these have an error."""

    name: str
    state: State
    rows: int = 0
    errors: int = 0
    error: str = ""


@dataclass(frozen=True)
class FileRecord:
    """The state of a file after `tries` attempts; `check`: a checksum of its content."""

    stamp: Stamp
    check: str
    state: State = "done"
    tries: int = 1
    error: str = ""


@dataclass(frozen=True)
class FileRow(Row):
    """A row of a file. broken: the file could not be read to its end."""

    file: str = ""
    broken: bool = False


def files_in(folder: Path, patterns: tuple[str, ...] = ()) -> dict[str, Stamp]:
    """The files directly in a folder, by name.

    Hidden and unfinished files, folders, pipes, and links that lead out of the folder are omitted.
    """
    names = [path.name for path in sorted(folder.iterdir())]
    matching = [name for name in names if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
    return {name: stamp for name in matching if (stamp := stamp_of(folder / name)) is not None}


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; `None` for one that `files_in` omits."""
    if path.name.startswith(".") or path.name.lower().endswith(UNFINISHED):
        return None
    with suppress(OSError):  # it was just deleted, or is not accessible
        inside = not path.is_symlink() or path.resolve().is_relative_to(path.parent.resolve())
        if path.is_file() and inside:
            status = path.stat()
            return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
    return None


def watch_folder(
    engine: Engine | Endpoint, watch: Watch, wait: Callable[[], bool], *, once: bool = False
) -> Iterator[Outcome]:
    """The outcomes of files. engine: started, or a server. wait: sleeps between scans; ends this by returning False.

    A file is answered when two scans in a row find it unchanged. once: two scans, and all attempts at what they found.
    Raises `TinyslmError` if the output folder cannot be used, or holds results of other settings.
    """
    check_place(watch.out / JOURNAL)
    try:
        (watch.out / FAILED).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(watch.out / FAILED, error) from error
    with Journal(watch.out / JOURNAL, watch.out) as journal:
        _check_settings(watch, journal)
        for partial in watch.out.glob(".*.tmp"):  # of a killed process: a running one would have the journal open
            partial.unlink()
        records = {name: FileRecord(**{**value, "stamp": Stamp(**value["stamp"])}) for name, value in journal}
        seen = files_in(watch.folder, watch.patterns)
        while wait():
            previous, seen = seen, files_in(watch.folder, watch.patterns)
            stable = {name: stamp for name, stamp in seen.items() if previous.get(name) == stamp}
            while due := _due(watch.folder, stable, records):
                for record, outcome in _attempt(engine, watch, stable, due):
                    if record.state == "changed":
                        del stable[outcome.name]
                    else:
                        records[outcome.name] = record
                        journal.put(outcome.name, asdict(record))
                    yield outcome
                watch.follower.report()
                if not once:
                    break
            if once:
                return


def _check_settings(watch: Watch, journal: Journal) -> None:
    settings = {**watch.template.as_json(), "each": watch.each}
    before = journal.settings or settings
    if changed := [key for key in {**before, **settings} if before.get(key) != settings.get(key)]:
        raise TinyslmError(
            f"{watch.out} holds results of other settings: {', '.join(changed)}.",
            "Give the settings of the earlier run, or another --out.",
        )
    if journal.settings is None:
        journal.begin(settings)


def _due(folder: Path, files: Mapping[str, Stamp], records: dict[str, FileRecord]) -> dict[str, int]:
    """The files to be answered, with the number of failed attempts so far."""
    due = {}
    for name, stamp in files.items():
        record = records.get(name)
        if record is not None and record.state != "failed" and _only_touched(folder / name, stamp, record):
            record = records[name] = replace(record, stamp=stamp)
        if record is None or record.stamp != stamp:
            due[name] = 0
        elif record.state == "failed":
            due[name] = record.tries
    return due


def _only_touched(path: Path, stamp: Stamp, record: FileRecord) -> bool:
    """Whether a file has another stamp, but the same content."""
    return stamp != record.stamp and stamp.size == record.stamp.size and checksum_file(path) == record.check


def _attempt(
    engine: Engine | Endpoint, watch: Watch, files: Mapping[str, Stamp], due: Mapping[str, int]
) -> Iterator[tuple[FileRecord, Outcome]]:
    """One attempt at each file; those with the same number of failed attempts are answered concurrently."""
    for tries, group in groupby(sorted(due, key=due.__getitem__), key=due.__getitem__):
        checks: dict[str, str] = {}
        rows = (row for name in list(group) for row in _rows(watch, name, checks))
        template = watch.template.for_attempt(tries)
        answered = answer_rows(engine, template, rows, (), watch.concurrency, strict=False)
        for name, results in groupby(answered, key=lambda one: _file_row(one).file):
            yield _settle(watch, name, FileRecord(files[name], checks[name], tries=tries + 1), results)


def _rows(watch: Watch, name: str, checks: dict[str, str]) -> Iterator[FileRow]:
    """The requests of a file, at least one; the last one is broken if the file cannot be read to its end.

    Stores the file's checksum in `checks` first: later changes are noticed.
    """
    path, number = watch.folder / name, 0
    checks[name] = ""
    try:
        checks[name] = checksum_file(path)
        if watch.each == "file":
            yield FileRow(1, {"file": name, "text": watch.follower.read(path)}, file=name)
            return
        with closing(iter(Rows(str(path), kind_of(path) or "text"))) as rows:
            for row in rows:
                number = row.number
                yield FileRow(number, {"file": name, **row.values}, row.problem, file=name)
        if not number:
            raise TinyslmError("the file is empty", "")
    except (TinyslmError, OSError) as error:
        problem = error.problem if isinstance(error, TinyslmError) else f"it could not be read: {error.strerror}"
        yield FileRow(number + 1, {"file": name}, problem, file=name, broken=True)


def _settle(watch: Watch, name: str, record: FileRecord, results: Iterable[RowResult]) -> tuple[FileRecord, Outcome]:
    """Publish the results of a file, or note why it failed.

    A file that is one request fails with it; one of many lines fails only if it cannot be read.
    """
    place = watch.out / f"{name}.{'json' if watch.each == 'file' else 'jsonl'}"
    temporary = place.with_name(f".{place.name}.tmp")
    rows = errors = 0
    error, last = "", Result()

    def lines() -> Iterator[Result]:
        nonlocal rows, errors, error, last
        for one in results:
            last = one.result
            rows, errors = rows + 1, errors + one.failed
            if one.failed and (watch.each == "file" or _file_row(one).broken):
                error = str(one.result["error"])
            numbered = watch.each == "line"
            yield one.result if numbered else {"file": name} | {k: v for k, v in one.result.items() if k != "row"}

    try:
        write_lines(lines(), temporary)
        sync_file(temporary)
        if stamp_of(watch.folder / name) != record.stamp:
            record, error = replace(record, state="changed"), "the file was changed or deleted while it was read"
        elif error:
            record = replace(record, state="failed" if record.tries < watch.tries else "aside", error=error)
        else:
            if watch.each == "file":
                watch.follower.add(name, record.stamp, last)
            temporary.replace(place)
    except OSError as problem:
        raise disk_error(temporary, problem) from problem
    finally:
        temporary.unlink(missing_ok=True)
    note = watch.out / FAILED / f"{name}.json"
    if record.state == "aside":
        write_json(note, {"file": name, "error": error, "tries": record.tries})
    elif record.state == "done":
        note.unlink(missing_ok=True)
    return record, Outcome(name, record.state, rows, errors, error)


def _file_row(result: RowResult) -> FileRow:
    assert isinstance(result.row, FileRow)
    return result.row
