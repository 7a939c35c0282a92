"""`tinyslm watch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.asking import GeneratorOptions, PromptOptions
from tinyslm.core.config import Section
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from tinyslm.batch.watch import Watch
    from tinyslm.evaluation.runtimes.endpoint import Endpoint
    from tinyslm.inference.engine import Engine


class WatchOptions(Section):
    """How the folder is watched."""

    each: str = Field(
        default="file", description="One request per file, or per line (of .jsonl, .csv and .parquet files: per row)."
    )
    pattern: tuple[str, ...] = Field(
        default=(),
        description="Names of the files to answer, such as *.txt; may be given several times; by default all.",
    )
    once: bool = Field(default=False, description="Answer the files that exist now, then exit; for cron.")
    interval: float = Field(
        default=2.0,
        ge=0,
        description="Seconds between scans. A file is answered when two scans in a row find it unchanged.",
    )
    tries: int = Field(default=3, ge=1, description="Attempts before a file is set aside.")
    concurrency: int = Field(default=32, ge=1, le=1024, description="Number of concurrent requests.")
    pack: str = Field(
        default="",
        description="A pack that says what is asked of each file, and follows the answers; prices keeps a history.",
    )


def watch(
    folder: Path,
    /,
    *,
    model: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    options: Annotated[WatchOptions | None, Parameter(name="*")] = None,
    prompts: Annotated[PromptOptions | None, Parameter(name="*")] = None,
    sampling: Annotated[SamplingSettings | None, Parameter(name="*")] = None,
    engine: Annotated[GeneratorOptions | None, Parameter(name="*")] = None,
) -> None:
    """Answer each new file of a folder into another folder, until Ctrl-C.

    Prints one JSON object per file. After a restart, nothing is done twice. With --once, the exit code is 4 if a file
    was set aside or has lines with errors.

    Parameters
    ----------
    folder
        The folder to read. Hidden and unfinished files (.part, .tmp) and links that lead out of it are ignored.
    model
        A model folder, a run folder (its model is used) or a GGUF file (imported first); with --endpoint, a name.
    out
        The folder for results: NAME.json, or NAME.jsonl with --each line; failed/ has notes on files set aside.
    options
        How the folder is watched.
    prompts
        How a file or line becomes a prompt (its columns: file, text), and constraints on its answer.
    sampling
        How text is sampled; line i (from 0 on) uses seed + i.
    engine
        The inference engine.
    """
    import sys

    from tinyslm.batch.watch import Follower, Watch
    from tinyslm.cli.asking import FAILED, opened_generator

    options, prompts = options or WatchOptions(), prompts or PromptOptions()
    template, follower = prompts.prompt_template(sampling or SamplingSettings()), Follower()
    if options.pack:
        from tinyslm.core.plugins import load_plugins
        from tinyslm.packs.watching import watching_of

        load_plugins()
        template, follower = watching_of(options.pack, out, template)
    job = Watch(
        folder,
        out,
        template,
        options.each,
        options.pattern,
        options.tries,
        options.concurrency,
        follower,
    )
    with opened_generator(model, engine or GeneratorOptions()) as running:
        if _run(running, job, options):
            sys.exit(FAILED)


def _run(engine: Engine | Endpoint, job: Watch, options: WatchOptions) -> bool:
    """Watch, and print the outcomes; returns whether a file was set aside or has errors."""
    from dataclasses import asdict
    from json import dumps
    from time import sleep

    from tinyslm.batch.watch import watch_folder
    from tinyslm.core.console import stream

    failed = False

    def wait() -> bool:
        sleep(options.interval)
        return True

    for outcome in watch_folder(engine, job, wait, once=options.once):
        stream(dumps(asdict(outcome)) + "\n")
        failed = failed or outcome.state == "aside" or outcome.errors > 0
    return failed
