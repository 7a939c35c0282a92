"""A file of rows answered by a model, row by row in order, so that it can be killed and gone on with at any moment.

While it runs, results are appended to `OUT.part`, and `OUT.batch.json` says what is being computed from what. At the
end `OUT` appears as a whole, and `OUT.part` goes. A run that finds both files goes on behind the last whole line, after
checking that the model, the settings and the rows that were done are what they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.config import flatten
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import check_place, checksum_file, sha256_json, write_json
from tinyslm.core.json_files import read_json
from tinyslm.serving.automation.asking import Asking, told
from tinyslm.serving.automation.journal import Journal, Line
from tinyslm.serving.automation.openai_batch import answer_requests, is_request, named_once
from tinyslm.serving.automation.plain_rows import answer_rows
from tinyslm.serving.automation.publishing import check_ending, publish
from tinyslm.serving.automation.results import Done
from tinyslm.serving.automation.rows import Row, Rows

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine

FORMAT = 1
Progress = Callable[[int, float | None], None]
"""Told how many rows are done, and which share of the input that is (`None`: not known)."""


@dataclass(frozen=True)
class Batch:
    """What is to be done: rows of `source` (a path or `-`; `kind`: its format, if its ending does not tell) to `out`.

    keep: columns that go with the results. limit: rows to do at most; 0: all. concurrency: requests side by side.
    """

    source: str
    out: Path
    asking: Asking
    keep: tuple[str, ...] = ()
    kind: str = ""
    limit: int = 0
    concurrency: int = 32


@dataclass(frozen=True)
class Summary:
    """What was done: rows in `out`, those of them done before this run, those with an error; tokens of this run."""

    out: str
    rows: int
    done_before: int
    errors: int
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0


def run_batch(
    engine: Engine,
    model: str,
    batch: Batch,
    progress: Progress = lambda done, share: None,
    *,
    restart: bool = False,
) -> Summary:
    """Do what is left of a batch; `model` tells one model from another (see `model_check`); the engine is started.

    restart: begin anew; what an earlier batch left is removed when the first row is answered, not before. Raises
    `TinyslmError` when the output belongs to something else, with `restart` only if that is no batch.
    """
    check_ending(batch.out)
    check_place(batch.out)
    rows = Rows(batch.source, batch.kind)
    wanted = {"format": FORMAT, "model": model, "asked": _told(batch)}
    _check_apart(batch)
    _manifest(batch, wanted, restart=restart)  # before a file is touched that may belong to something else
    batch.out.parent.mkdir(parents=True, exist_ok=True)
    with Journal(part_path(batch.out)) as journal:
        before = _manifest(batch, wanted, restart=restart)  # nobody else writes it from here on
        if before.get("finished") and batch.out.exists() and not restart:
            journal.remove()
            return _finished_before(rows, batch, before)
        done_before, began = 0 if restart else journal.count, time.monotonic()
        check = journal.last["check"] if journal.last and not restart else ""
        try:
            progress(done_before, rows.share)
            answered = _begun(_answered(engine, batch, rows, done_before, check))
            if restart:
                batch.out.unlink(missing_ok=True)
                journal.clear()
            write_json(_manifest_path(batch.out), {**wanted, "finished": False})
            usage = _go_on(answered, rows, journal, progress)
        except BaseException:
            if not journal.count:  # as if it had never been tried: what was wrong can be corrected
                journal.remove()
            raise
        errors = _finish(batch, wanted, journal)
        return Summary(str(batch.out), journal.count, done_before, errors, *usage, seconds=time.monotonic() - began)


def _finish(batch: Batch, wanted: Line, journal: Journal) -> int:
    """The output appears, and what led to it goes; returns how many rows have an error."""
    journal.sync()
    failed = [bool(line["failed"]) for line in journal]
    if len(failed) != journal.count:
        raise TinyslmError(
            f"{journal.path} was changed by something else: it has {len(failed)} rows instead of {journal.count}.",
            "Run the same command again, and let nothing else write there.",
        )
    fields = batch.asking.form.fields if batch.asking.form else ()
    publish(lambda: (line["result"] for line in journal), batch.out, fields)
    check = journal.last["check"] if journal.last else ""
    ended = {"finished": True, "rows": journal.count, "errors": sum(failed), "check": check}
    write_json(_manifest_path(batch.out), {**wanted, **ended})
    journal.remove()
    return sum(failed)


def stream_batch(engine: Engine, batch: Batch) -> Iterator[Done]:
    """The results one by one; nothing is kept, and nothing can be gone on with."""
    yield from _answered(engine, batch, Rows(batch.source, batch.kind), 0, "")


def part_path(out: Path) -> Path:
    """The results so far, of a batch that has not ended."""
    return out.with_name(f"{out.name}.part")


def model_check(path: Path) -> str:
    """A checksum of a model folder or model file: of everything that decides what it says."""
    if path.is_file():
        return checksum_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in _DECIDING)
    return sha256_json([[file.relative_to(path).as_posix(), checksum_file(file)] for file in files])


_DECIDING = (".safetensors", ".json", ".jinja", ".onnx", ".data", ".gguf", ".model")


def _begun(answered: Iterator[Done]) -> Iterator[Done]:
    """The same results, of which the first one is there: nothing was wrong with how rows are to be taken."""
    return chain(list(islice(answered, 1)), answered)


def _go_on(answered: Iterator[Done], rows: Rows, journal: Journal, progress: Progress) -> tuple[int, int]:
    """Keep the results in the journal as they come; returns the tokens of prompts and answers."""
    prompt_tokens = tokens = 0
    for done in answered:
        journal.append({"check": done.row.check, "failed": done.failed, "result": done.result})
        prompt_tokens += done.prompt_tokens
        tokens += done.tokens
        progress(journal.count, rows.share)
    return prompt_tokens, tokens


def _answered(engine: Engine, batch: Batch, rows: Rows, done: int, check: str) -> Iterator[Done]:
    """The results of the rows behind the first `done`; the first row shows how they are to be taken."""
    source = islice(rows, batch.limit or None)
    first = list(islice(source, 1))
    asking = batch.asking
    left: Iterator[Row] = chain(first, source)
    requests = bool(first) and is_request(first[0]) and not asking.template and not asking.column
    if requests:
        left = named_once(left)
    _skip_done(left, done, check, batch)
    if not requests:
        return answer_rows(engine, asking, left, batch.keep, batch.concurrency)
    if asking != Asking() or batch.keep:
        raise TinyslmError(
            f"{batch.source} is in OpenAI's batch format, whose lines say themselves how they are answered.",
            "Give no settings, --schema, --system, --chat or --keep with it.",
        )
    return answer_requests(engine, left, batch.concurrency)


def _skip_done(rows: Iterator[Row], done: int, check: str, batch: Batch) -> None:
    """Read past the rows that are done; raises `TinyslmError` if they are other ones now."""
    last = ""
    for row in islice(rows, done):
        last = row.check
    if last != check:
        raise _other(batch.out, f"the first {done} rows of {batch.source} are not what they were")


def _finished_before(rows: Rows, batch: Batch, manifest: Line) -> Summary:
    """The summary of a batch that needs nothing more."""
    count, check = 0, ""
    for row in islice(rows, batch.limit or None):
        count, check = count + 1, row.check
    if (count, check) != (manifest["rows"], manifest["check"]):
        raise _other(batch.out, f"it was finished for {manifest['rows']} rows, and {batch.source} has other ones now")
    return Summary(str(batch.out), count, count, manifest["errors"])


def _manifest_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.batch.json")


def _check_apart(batch: Batch) -> None:
    """Raise `TinyslmError` where the results would replace the rows."""
    for path in (batch.out, part_path(batch.out), _manifest_path(batch.out)):
        if batch.source != "-" and path.exists() and path.samefile(batch.source):
            raise TinyslmError(f"{path} is the input, which would be written over.", "Give another --out.")


def _manifest(batch: Batch, wanted: Mapping[str, Any], *, restart: bool) -> Line:
    """What is known of an earlier run for the same output.

    Raises `TinyslmError` when it was no batch, and when it was another one, which a restart need not mind.
    """
    path, part = _manifest_path(batch.out), part_path(batch.out)
    begun = part.exists() and part.stat().st_size > 0
    if not batch.out.exists() and not begun:
        return {}  # nothing has come of it, or what came of it was removed
    remedy = f"Give another --out, or delete {batch.out} and {part} yourself."
    before = read_json(path, remedy=remedy) if path.exists() else {}
    if before == {} or (not begun and not before.get("finished")):
        raise TinyslmError(
            f"{part if begun else batch.out} exists, and was written by something else.",
            "Give another --out, or delete it yourself.",
        )
    ended = ("rows", "errors", "check") if before.get("finished") else ()
    if not before.keys() >= {*wanted, *ended}:
        raise TinyslmError(f"{path} is damaged.", remedy)
    if restart:
        return before
    old, new = (dict(flatten({key: one[key] for key in wanted})) for one in (before, wanted))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if "model" in changed:
        raise _other(batch.out, "the model was another one")
    if changed:
        raise _other(
            batch.out,
            "; ".join(
                f"{_short(key)}: {old.get(key, 'default')!r} then, {new.get(key, 'default')!r} now" for key in changed
            ),
        )
    return before


def _short(key: str) -> str:
    return key.removeprefix("asked.").removeprefix("settings.")


def _other(out: Path, why: str) -> TinyslmError:
    return TinyslmError(
        f"{out} belongs to another batch: {why}.", "Run it as before, give another --out, or --restart to begin anew."
    )


def _told(batch: Batch) -> Line:
    """What decides the results, beside the model and the rows."""
    return {**told(batch.asking), "keep": list(batch.keep), "kind": batch.kind}
