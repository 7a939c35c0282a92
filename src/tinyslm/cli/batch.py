"""`tinyslm batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.asking import EngineOptions, PromptOptions
from tinyslm.core.config import Section
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from tinyslm.serving.automation.batch import Batch, Summary


class BatchOptions(Section):
    """How a batch is run."""

    out: Annotated[Path | None, Parameter(name=["--out", "-o"], allow_leading_hyphen=True)] = Field(
        default=None, description="The file to write: .jsonl, .csv or .parquet. `-`, or none: JSONL on standard output."
    )
    format: str = Field(
        default="", description="jsonl, csv, parquet or text (a row is a line), where the input's ending does not tell."
    )
    keep: tuple[str, ...] = Field(
        default=(), description="A column that goes with the results; may be given several times, * keeps all."
    )
    limit: int = Field(default=0, ge=0, description="How many rows to do at most; 0: all.")
    concurrency: int = Field(default=32, ge=1, le=1024, description="How many requests the engine has at a time.")
    restart: bool = Field(default=False, description="Begin anew: replace what an earlier batch left in --out.")


def batch(
    model: Path,
    source: str,
    /,
    *,
    options: Annotated[BatchOptions | None, Parameter(name="*")] = None,
    prompts: Annotated[PromptOptions | None, Parameter(name="*")] = None,
    sampling: Annotated[SamplingSettings | None, Parameter(name="*")] = None,
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Answer every row of a file. Killed at any moment, the same command goes on where it was.

    A row that cannot be answered has an `error`, and the others go on; the exit code is then 4.

    Parameters
    ----------
    model
        A model folder, a run folder (its model is used), a GGUF file or an ONNX folder.
    source
        The rows: .jsonl, .csv, .tsv, .parquet, or text (.txt, .log, .md: a row is a line); `-`: standard input. Lines
        of OpenAI's batch format are answered in that format.
    options
        How the batch is run.
    prompts
        How a row becomes a prompt, and what its answer must look like.
    sampling
        How the text is drawn; row i (from 0 on) uses seed + i.
    engine
        What computes.
    json
        Print what was done as JSON, and no progress.
    """
    from tinyslm.serving.automation.batch import Batch

    options = options or BatchOptions()
    asking = (prompts or PromptOptions()).asking(sampling or SamplingSettings())
    out = options.out
    job = Batch(source, out or Path("-"), asking, options.keep, options.format, options.limit, options.concurrency)
    if out is None or str(out) == "-":
        _stream(model, job, engine or EngineOptions())
    else:
        _write(model, job, engine or EngineOptions(), restart=options.restart, json=json)


def _stream(model: Path, job: Batch, options: EngineOptions) -> None:
    """Results on standard output as they come, and nothing else."""
    import sys

    from tinyslm.cli.asking import FAILED, opened
    from tinyslm.core.console import stream
    from tinyslm.serving.automation.batch import stream_batch
    from tinyslm.serving.automation.journal import as_json

    errors = 0
    with opened(model, options) as engine:
        for done in stream_batch(engine, job):
            stream(as_json(done.result).decode() + "\n")
            errors += done.failed
    if errors:
        sys.exit(FAILED)


def _write(model: Path, job: Batch, options: EngineOptions, *, restart: bool, json: bool) -> None:
    import sys
    from contextlib import nullcontext
    from dataclasses import asdict
    from json import dumps

    from tinyslm.cli.asking import FAILED, opened
    from tinyslm.core.console import row_progress, say
    from tinyslm.model.folder import find_model
    from tinyslm.serving.automation.batch import model_check, run_batch

    with opened(model, options) as engine:
        check = f"{model_check(model if model.is_file() else find_model(model))} {options.dtype}"
        try:
            with nullcontext(lambda done, share: None) if json else row_progress(f"Answering {job.source}") as progress:
                summary = run_batch(engine, check, job, progress, restart=restart)
        except KeyboardInterrupt:
            say("\nStopped; the rows that were done are saved. The same command goes on.")
            sys.exit(130)
    say(dumps(asdict(summary)) if json else _describe(summary))
    if summary.errors:
        sys.exit(FAILED)


def _describe(summary: Summary) -> str:
    from tinyslm.core.quantities import count, duration

    lines = [f"{summary.rows:,} rows in {summary.out}"]
    if summary.done_before == summary.rows:
        lines[0] += ", all of them from before: there was nothing left to do"
    elif summary.done_before:
        lines[0] += f", {summary.done_before:,} of them from before"
    if summary.tokens:
        rate = summary.tokens / max(summary.seconds, 1e-9)
        lines.append(
            f"{count(summary.prompt_tokens)} prompt tokens, {count(summary.tokens)} generated in "
            f"{duration(summary.seconds)}: {rate:,.0f} tokens/s"
        )
    if summary.errors:
        rows = "1 row has" if summary.errors == 1 else f"{summary.errors:,} rows have"
        lines.append(f"{rows} an error: see the column of that name")
    return "\n".join(f"{line}." for line in lines)
