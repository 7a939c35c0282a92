"""`tinyslm batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.asking import GeneratorOptions, PromptOptions
from tinyslm.core.config import Section
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tinyslm.batch.job import BatchJob, BatchSummary
    from tinyslm.inference.engine import Engine


class BatchOptions(Section):
    """How the batch runs."""

    out: Annotated[Path | None, Parameter(name=["--out", "-o"], allow_leading_hyphen=True)] = Field(
        default=None,
        description="The file to write: .jsonl, .csv or .parquet. `-` (default): JSONL on standard output.",
    )
    format: str = Field(
        default="",
        description="Format of the input: jsonl, csv, parquet or text (one row per line); default: by its suffix.",
    )
    keep: tuple[str, ...] = Field(
        default=(), description="A column of the input to repeat in the results; may be given several times; *: all."
    )
    limit: int = Field(default=0, ge=0, description="Answer at most this many rows; 0: all.")
    concurrency: int = Field(default=32, ge=1, le=1024, description="Number of concurrent requests.")
    restart: bool = Field(
        default=False, description="Start from the first row: replace the results of an earlier batch in --out."
    )


def batch(
    model: Path,
    source: str,
    /,
    *,
    options: Annotated[BatchOptions | None, Parameter(name="*")] = None,
    prompts: Annotated[PromptOptions | None, Parameter(name="*")] = None,
    sampling: Annotated[SamplingSettings | None, Parameter(name="*")] = None,
    engine: Annotated[GeneratorOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Answer every row of a file; after an interruption, the same command resumes.

    A row that cannot be answered gets an `error`, and the others are answered; the exit code is then 4.

    Parameters
    ----------
    model
        A model folder, a run folder (its model is used) or a GGUF file (imported first); with --endpoint, a name.
    source
        The rows: .jsonl, .csv, .tsv, .parquet, or text (.txt, .log, .md: one row per line); `-`: standard input. Lines
        in OpenAI's batch format are answered in that format.
    options
        How the batch runs.
    prompts
        How a row becomes a prompt, and constraints on its answer.
    sampling
        How text is sampled; row i (from 0 on) uses seed + i.
    engine
        The inference engine.
    json
        Print a summary as JSON, and no progress.
    """
    from tinyslm.batch.job import BatchJob

    options = options or BatchOptions()
    job = BatchJob(
        source,
        options.out or Path("-"),
        (prompts or PromptOptions()).prompt_template(sampling or SamplingSettings()),
        options.keep,
        options.format,
        options.limit,
        options.concurrency,
        _openai_app,
    )
    if str(job.out) == "-":
        _stream(model, job, engine or GeneratorOptions())
    else:
        _write(model, job, engine or GeneratorOptions(), restart=options.restart, json=json)


def _openai_app(engine: Engine) -> ASGIApp:
    from tinyslm.core.errors import require_extra

    try:
        from tinyslm.serving.app import engine_app
    except ImportError:
        raise require_extra("serve", "OpenAI's batch format") from None
    return engine_app(engine)


def _stream(model: Path, job: BatchJob, options: GeneratorOptions) -> None:
    """Print the results as they are complete, and nothing else."""
    import sys

    from tinyslm.batch.job import stream_batch
    from tinyslm.batch.output import json_line
    from tinyslm.cli.asking import FAILED, opened_generator
    from tinyslm.core.console import stream

    errors = 0
    with opened_generator(model, options) as engine:
        for one in stream_batch(engine, job):
            stream(json_line(one.result).decode())
            errors += one.failed
    if errors:
        sys.exit(FAILED)


def _write(model: Path, job: BatchJob, options: GeneratorOptions, *, restart: bool, json: bool) -> None:
    import sys
    from contextlib import nullcontext
    from dataclasses import asdict
    from json import dumps

    from tinyslm.batch.job import model_checksum, run_batch
    from tinyslm.cli.asking import FAILED, opened_generator
    from tinyslm.core.console import row_progress, say
    from tinyslm.model.folder import find_model

    with opened_generator(model, options) as engine:
        if options.endpoint:
            checksum = f"{options.endpoint} {model}"
        else:
            checksum = f"{model_checksum(model if model.is_file() else find_model(model))} {options.dtype}"
        try:
            with nullcontext(lambda done, share: None) if json else row_progress(f"Answering {job.source}") as progress:
                summary = run_batch(engine, checksum, job, progress, restart=restart)
        except KeyboardInterrupt:
            say("\nInterrupted; the answered rows are saved. The same command resumes.")
            sys.exit(130)
    say(dumps(asdict(summary)) if json else _describe(summary))
    if summary.errors:
        sys.exit(FAILED)


def _describe(summary: BatchSummary) -> str:
    from tinyslm.core.quantities import count, counted, duration

    lines = [f"{counted(summary.rows, 'row')} in {summary.out}"]
    if not summary.rows:
        lines[0] += ": the input has none"
    elif summary.done_before == summary.rows:
        lines[0] += ", all of them from an earlier run: there was nothing left to do"
    elif summary.done_before:
        lines[0] += f", {summary.done_before:,} of them from an earlier run"
    if summary.tokens:
        rate = summary.tokens / max(summary.seconds, 1e-9)
        lines.append(
            f"{count(summary.prompt_tokens)} prompt tokens, {count(summary.tokens)} generated in "
            f"{duration(summary.seconds)}: {rate:,.0f} tokens/s"
        )
    if summary.errors:
        rows = f"{counted(summary.errors, 'row')} {'has' if summary.errors == 1 else 'have'}"
        lines.append(f"{rows} an error: see the column of that name")
    return "\n".join(f"{line}." for line in lines)
