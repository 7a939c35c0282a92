"""`tinyslm watch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.asking import EngineOptions, PromptOptions
from tinyslm.core.config import Section
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine
    from tinyslm.serving.automation.watch import Watch


class WatchOptions(Section):
    """How a folder is watched."""

    each: str = Field(
        default="file", description="What is one request: file, or line (of text; of .jsonl, .csv, .parquet: a row)."
    )
    pattern: tuple[str, ...] = Field(
        default=(), description="Names of files to take, as *.txt; may be given several times. Without it: all."
    )
    once: bool = Field(default=False, description="Do what is there, and end; for cron.")
    interval: float = Field(
        default=2.0, ge=0, description="Seconds between two looks. A file is taken when both find it the same."
    )
    tries: int = Field(default=3, ge=1, description="How often a file may fail before it is put aside.")
    concurrency: int = Field(default=32, ge=1, le=1024, description="How many requests the engine has at a time.")


def watch(
    folder: Path,
    /,
    *,
    model: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    options: Annotated[WatchOptions | None, Parameter(name="*")] = None,
    prompts: Annotated[PromptOptions | None, Parameter(name="*")] = None,
    sampling: Annotated[SamplingSettings | None, Parameter(name="*")] = None,
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
) -> None:
    """Turn each new file of a folder into a result in another one, until Ctrl-C.

    Prints one JSON object for each file. What is done is not done again after a restart. With --once, the exit code is
    4 when a file was put aside or has lines with errors.

    Parameters
    ----------
    folder
        The folder with files to read. Hidden and unfinished ones (.part, .tmp) and links out of it are left alone.
    model
        A model folder, a run folder (its model is used), a GGUF file or an ONNX folder.
    out
        The folder for results: NAME.json, or NAME.jsonl with --each line; reasons of files put aside are in failed/.
    options
        How the folder is watched.
    prompts
        How a file or line becomes a prompt (its columns: file, text), and what its answer must look like.
    sampling
        How the text is drawn; line i (from 0 on) uses seed + i.
    engine
        What computes.
    """
    import sys

    from tinyslm.cli.asking import FAILED, opened
    from tinyslm.serving.automation.watch import Watch

    options, prompts = options or WatchOptions(), prompts or PromptOptions()
    job = Watch(
        folder,
        out,
        prompts.asking(sampling or SamplingSettings()),
        options.each,
        options.pattern,
        options.tries,
        options.concurrency,
    )
    with opened(model, engine or EngineOptions()) as running:
        if _run(running, job, options):
            sys.exit(FAILED)


def _run(engine: Engine, job: Watch, options: WatchOptions) -> bool:
    """Watch, and tell what becomes of files; returns whether anything failed for good."""
    from dataclasses import asdict
    from json import dumps
    from time import sleep

    from tinyslm.core.console import stream
    from tinyslm.serving.automation.watch import watch_folder

    failed = False

    def wait() -> bool:
        sleep(options.interval)
        return True

    for outcome in watch_folder(engine, job, wait, once=options.once):
        stream(dumps(asdict(outcome)) + "\n")
        failed = failed or outcome.state == "aside" or outcome.errors > 0
    return failed
