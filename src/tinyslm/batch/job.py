"""Answer every row of a file; an interrupted job resumes.

While a job runs, its results are in `OUT.journal`; at the end `OUT` appears as a whole, and the journal keeps only what
`OUT` was made from. A run that finds a journal resumes behind its last result, after checking that the model, the
settings and the answered rows are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.batch.answering import RowResult, answer_rows
from tinyslm.batch.journal import Journal, Record
from tinyslm.batch.openai_requests import answer_requests, is_openai_request, unique_ids
from tinyslm.batch.output import check_suffix, write_results
from tinyslm.batch.prompts import PromptTemplate
from tinyslm.core.config import flatten
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import check_file_place, checksum_file, sha256_json
from tinyslm.data.rows import Row, Rows
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.inference.engine import Engine

if TYPE_CHECKING:
    from starlette.types import ASGIApp

FORMAT = 2
MODEL_FILES = (".safetensors", ".json", ".jinja", ".onnx", ".data", ".gguf", ".model")
"""Suffixes of the files that decide what a model generates."""

Progress = Callable[[int, float | None], None]
"""Called with the number of answered rows and the share of the input that was read (`None`: unknown)."""

OpenApp = Callable[["Engine"], "ASGIApp"]
"""Makes an app that answers OpenAI's requests with an engine."""


def _no_app(_: Engine) -> ASGIApp:
    raise TinyslmError("There is no app for OpenAI's batch format.", "Pass `open_app`, as the command line does.")


@dataclass(frozen=True)
class BatchJob:
    """Answer the rows of `source` (a path or `-`) into `out`.

    keep: input columns that are repeated in the results. kind: the format of the source, by default that of its
    suffix. limit: the number of rows to answer; 0: all. concurrency: requests at a time. open_app: for sources in
    OpenAI's batch format.
    """

    source: str
    out: Path
    template: PromptTemplate
    keep: tuple[str, ...] = ()
    kind: str = ""
    limit: int = 0
    concurrency: int = 32
    open_app: OpenApp = _no_app


@dataclass(frozen=True)
class BatchSummary:
    """Rows in `out`, those answered before this run, those with an error; tokens and seconds of this run."""

    out: str
    rows: int
    done_before: int
    errors: int
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0


def run_batch(
    engine: Engine | Endpoint,
    model: str,
    job: BatchJob,
    progress: Progress = lambda done, share: None,
    *,
    restart: bool = False,
) -> BatchSummary:
    """Answer the rows that are left. engine: started, or a server. model: identifies the model, see `model_checksum`.

    restart: start from the first row; the results of an earlier run are removed once the first row is answered. Raises
    `TinyslmError` if the output belongs to another job (with `restart`: if it was not written by a job).
    """
    check_suffix(job.out)
    check_file_place(job.out)
    rows = Rows(job.source, job.kind)
    asked = {**job.template.as_json(), "keep": list(job.keep), "kind": job.kind}
    settings = {"format": FORMAT, "model": model, "job": asked}
    for path in (job.out, journal_path(job.out)):
        if job.source != "-" and path.exists() and path.samefile(job.source):
            raise TinyslmError(f"{path} is the input, which would be overwritten.", "Give another --out.")
    job.out.parent.mkdir(parents=True, exist_ok=True)
    with Journal(journal_path(job.out), job.out) as journal, closing(iter(rows)) as source, ExitStack() as stack:
        begun = time.monotonic()
        if job.out.exists() and journal.settings is None:
            raise TinyslmError(f"{job.out} exists, and was not written by a batch.", "Give another --out.")
        previous = journal.settings if job.out.exists() or journal.count else None
        if previous and not restart:
            _check_settings(job.out, previous["settings"], settings)
            if previous["finished"] and job.out.exists():
                return _finished_summary(job, source, previous["finished"])
        last = None if restart else journal.last()
        done_before = journal.count if last else 0
        progress(done_before, rows.share)
        results = _results(engine, job, source, done_before, last["check"] if last else "")
        stack.enter_context(closing(results))  # cancels what still runs if this fails
        first = list(islice(results, 1))  # raises if the settings do not fit the rows
        if not done_before:
            job.out.unlink(missing_ok=True)
            journal.begin({"settings": settings, "finished": None})
        prompt_tokens = tokens = 0
        for one in chain(first, results):
            journal.put(one.row.number, {"check": one.row.check, "failed": one.failed, "result": one.result})
            prompt_tokens, tokens = prompt_tokens + one.prompt_tokens, tokens + one.tokens
            progress(journal.count, rows.share)
        count, errors = _publish(job, journal, settings)
    return BatchSummary(
        str(job.out), count, done_before, errors, prompt_tokens, tokens, seconds=time.monotonic() - begun
    )


def stream_batch(engine: Engine | Endpoint, job: BatchJob) -> Iterator[RowResult]:
    """The results one by one; nothing is stored, and the job cannot be resumed."""
    with closing(iter(Rows(job.source, job.kind))) as source:
        yield from _results(engine, job, source, 0, "")


def journal_path(out: Path) -> Path:
    """The journal of the job that writes `out`."""
    return out.with_name(f"{out.name}.journal")


def model_checksum(path: Path) -> str:
    """A checksum of everything in a model folder or model file that decides what it generates."""
    if path.is_file():
        return checksum_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in MODEL_FILES)
    return sha256_json([[file.relative_to(path).as_posix(), checksum_file(file)] for file in files])


def _results(
    engine: Engine | Endpoint, job: BatchJob, source: Iterator[Row], done: int, check: str
) -> Generator[RowResult]:
    """The results of the rows behind the first `done`; the first row of all shows whether it is OpenAI's format."""
    rows = islice(source, job.limit or None)
    first = list(islice(rows, 1))
    left: Iterator[Row] = chain(first, rows)
    template = job.template
    openai = bool(first) and is_openai_request(first[0]) and not template.template and not template.column
    if openai:
        left = unique_ids(left)
    last = ""
    for row in islice(left, done):
        last = row.check
    if last != check:
        raise _other_job(job.out, f"the first {done} rows of {job.source} have changed")
    if not openai:
        return answer_rows(engine, template, left, job.keep, job.concurrency)
    if template != PromptTemplate() or job.keep:
        raise TinyslmError(
            f"{job.source} is in OpenAI's batch format, whose lines have settings of their own.",
            "Give no settings, --schema, --system, --chat or --keep with it.",
        )
    if isinstance(engine, Endpoint):
        raise TinyslmError(
            f"{job.source} is in OpenAI's batch format, which is answered by our engine only.",
            "Give rows with a prompt or messages, or use the server's own batches.",
        )
    return answer_requests(job.open_app(engine), left, job.concurrency)


def _publish(job: BatchJob, journal: Journal, settings: Record) -> tuple[int, int]:
    """Write the output, and reduce the journal to what it was made from; returns the rows and the errors."""
    errors = sum(record["failed"] for _, record in journal)
    fields = job.template.constraint.fields if job.template.constraint else ()
    write_results(lambda: (record["result"] for _, record in journal), job.out, fields)
    last = journal.last()
    finished = {"rows": journal.count, "errors": errors, "check": last["check"] if last else ""}
    journal.begin({"settings": settings, "finished": finished})
    return finished["rows"], errors


def _finished_summary(job: BatchJob, source: Iterator[Row], finished: Record) -> BatchSummary:
    """The summary of a finished job. Raises `TinyslmError` if its input has changed."""
    count, check = 0, ""
    for row in islice(source, job.limit or None):
        count, check = count + 1, row.check
    if (count, check) != (finished["rows"], finished["check"]):
        raise _other_job(job.out, f"it finished {finished['rows']} rows, and {job.source} has changed since then")
    return BatchSummary(str(job.out), count, count, finished["errors"])


def _check_settings(out: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `TinyslmError` naming the settings that differ."""
    before, now = dict(flatten(old)), dict(flatten(new))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if "model" in changed:
        raise _other_job(out, "it used another model")
    if changed:
        described = (
            f"{key.removeprefix('job.').removeprefix('sampling.')}: {before.get(key, 'default')!r} then, "
            f"{now.get(key, 'default')!r} now"
            for key in changed
        )
        raise _other_job(out, "; ".join(described))


def _other_job(out: Path, reason: str) -> TinyslmError:
    return TinyslmError(
        f"{out} belongs to another batch: {reason}.",
        "Give the same command as before, or another --out, or --restart to start from the first row.",
    )
