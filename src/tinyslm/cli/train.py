"""`tinyslm train`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.options import SettingOptions
from tinyslm.core.config import Section

if TYPE_CHECKING:
    from tinyslm.planning.train import Limits


RUNS = Path("runs")


class TrainOptions(Section):
    """What is not a setting of the run, or short for one."""

    start_from: Annotated[str, Parameter(name="--from")] = Field(
        default="",
        description="A model folder or run folder whose training is continued, with its tokenizer, on this text; short "
        "for --train.start_from.",
    )
    minutes: float | None = Field(
        default=None, description="How long the run may take, from reading the text to its report."
    )
    hours: float | None = Field(default=None, description="The same in hours; both are short for --train.minutes.")
    tokens: int | None = Field(
        default=None, description="How many training tokens to read instead; short for --train.tokens."
    )
    params: str | None = Field(default=None, description="Plan a model of about so many parameters, such as 3M.")
    memory: float | None = Field(default=None, description="Plan for at most so much memory, in GB.")
    plan: Path | None = Field(default=None, description="Train by a plan that was written before, perhaps edited.")
    strict: bool = Field(
        default=False, description="Stop at broken lines, rows and bytes; short for --data.strict true."
    )
    lossy: bool = Field(
        default=False, description="Accept a tokenizer that does not restore every text; short for --data.lossy true."
    )
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = Field(
        default=(),
        description='Files and folders to leave out, such as "*.log"; can be repeated. Short for --data.exclude.',
    )
    on: str = Field(
        default="",
        description="Train on a Ray cluster: ray://HOST runs this command there; on one of its hosts, give `ray`. All "
        "hosts must see the same files at the same paths.",
    )
    world: int = Field(default=1, gt=0, description="How many processes to train in, with --on.")
    plugin: Annotated[tuple[str, ...], Parameter(negative=())] = Field(
        default=(),
        description="A Python file that adds a model family, a stage or a kind of tokenizer; can be repeated. --resume "
        "needs it again.",
    )
    as_json: Annotated[bool, Parameter(name="--json")] = Field(
        default=False, description="Print the result as JSON, and no progress."
    )


def train(
    *paths: str,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    resume: Path | None = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c"])] = None,
    tokenizer: Path | None = None,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    settings: SettingOptions = (),
) -> None:
    """Train a model on text, or resume a run that was interrupted.

    Unless the model's shape is given (`--model.dim`, `--model.depth`), it is planned: this machine is measured and the
    text surveyed, and the settings with the fewest expected bits per byte are chosen. What was given stays.

    Every setting can be given as `--section.key value`, for instance `--model.depth 6 --train.steps 2000`;
    `tinyslm config` lists them all with their meaning.

    Parameters
    ----------
    paths
        Files, folders and globs of text (.txt .md .py ... .html .jsonl .csv .parquet, also .gz and .zst), which may be
        in object storage (`s3://BUCKET/FOLDER`), `-` for standard input, `hf://NAME` for a dataset; or one shards
        folder made by `tinyslm data prepare`.
    out
        The run folder to write: checkpoints, log, report and the finished model folder. By default runs/NAME, where
        NAME is that of the text, with a number added if there is one already.
    resume
        The run folder of an interrupted run to go on with.
    config
        A TOML or YAML file of settings.
    tokenizer
        A folder with a tokenizer to use instead of training one.
    options
        Short forms of settings, and how the result is printed.
    settings
        Any setting, as `--section.key value`.
    """
    from time import monotonic, process_time

    began = monotonic() - process_time()  # the start of the program counts too, and it was little but computing

    from tinyslm.cli.on_cluster import run_on_hosts
    from tinyslm.cli.planning import given_settings
    from tinyslm.cli.progress import stopping, watching
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.plugins import load_plugins
    from tinyslm.planning.train import resume as resume_run
    from tinyslm.planning.train import train as train_run

    options = options or TrainOptions()
    run_on_hosts(options.on, options.world)
    if options.plugin:
        load_plugins(options.plugin)
    given = given_settings(config, (*settings, *_short_forms(options)))
    if resume is not None and (paths or out or tokenizer):
        raise TinyslmError(
            "--resume takes no paths, --out or --tokenizer: a run knows its own data.",
            f"Run: tinyslm train --resume {resume}",
        )
    if resume is None and not paths:
        raise TinyslmError("Nothing to train on was given.", "For instance: tinyslm train my-texts/ --minutes 10")
    folder = resume or out or new_run(paths[0])
    named = None if resume or out else folder  # a name that the user did not give
    with stopping(folder, json=options.as_json), watching(began, json=options.as_json, run=named) as watch:
        if resume is not None:
            result = resume_run(resume, settings=given, watch=watch)
        else:
            plan = _plan(options)
            result = train_run(paths, folder, settings=given, plan=plan, tokenizer=tokenizer, watch=watch)
    if options.as_json:
        _tell(folder, result)
    else:
        _say(folder, result)


def new_run(text: str) -> Path:
    """A new folder in `RUNS`, named after a text: a file, folder, glob or data set; with a number if that is taken."""
    from tinyslm.core.files import free_folder, in_home

    path = in_home(text.partition("://")[2] or text)
    while set("*?[") & set(path.name):
        path = path.parent
    path = path.resolve()
    name = path.name if path.is_dir() else Path(path.name.removesuffix(".gz").removesuffix(".zst")).stem
    return free_folder(RUNS / (name.strip("-") or "text"))


def _plan(options: TrainOptions) -> Path | Limits:
    """The plan's file, or limits for one that is made."""
    from tinyslm.cli.planning import limits
    from tinyslm.core.errors import TinyslmError

    if options.plan is None:
        return limits(options.params, options.memory)
    if options.params or options.memory:
        raise TinyslmError("--params and --memory limit a plan that is made, and --plan gives one.", "Leave them out.")
    return options.plan


def _short_forms(options: TrainOptions) -> Iterator[str]:
    """The settings that options are short for."""
    from tinyslm.cli.pull import pulled
    from tinyslm.core.errors import TinyslmError

    if options.minutes is not None and options.hours is not None:
        raise TinyslmError("--minutes and --hours are two forms of one setting.", "Give one of them.")
    if options.start_from:
        yield f"train.start_from={pulled(Path(options.start_from))}"
    if options.minutes is not None:
        yield f"train.minutes={options.minutes}"
    if options.hours is not None:
        yield f"train.minutes={60 * options.hours}"
    if options.tokens is not None:
        yield f"train.tokens={options.tokens}"
    if options.strict:
        yield "data.strict=true"
    if options.lossy:
        yield "data.lossy=true"
    yield from (f"data.exclude={pattern}" for pattern in options.exclude)


def _say(path: Path, result: Mapping[str, Any]) -> None:
    """What came of the run, and what to do next."""
    from tinyslm.cli.finetune import say_result
    from tinyslm.cli.planning import describe_expected
    from tinyslm.cli.progress import command
    from tinyslm.core.console import say

    if "before" in result and "bits_per_byte" not in result:  # a fine-tuning run that was resumed
        say_result(path, result)
        return
    say(f"\nValidation: {describe_score(result)}")
    if verdict := result.get("verdict"):
        _say_change(verdict)
    if planned := result.get("planned"):
        say(f"Expected:   {describe_expected(planned)}")
    say(f"Model folder: {path / 'model'}\nReport:       {path / 'report.html'}")
    say(f"Try it:       {command()} generate {path / 'model'} --prompt 'Once'")


def _say_change(verdict: Mapping[str, Any]) -> None:
    """What continued training has changed, on its text and on general text."""
    from textwrap import fill

    from tinyslm.core.console import say, table

    parts = {"this text, held out": verdict["loss"], "general text": verdict["general"]}
    rows = [
        (name, f"{one['before']:.4f}", f"{one['after']:.4f}", f"{one['after'] / one['before'] - 1:+.1%}")
        for name, one in parts.items()
        if one
    ]
    say()
    table(rows, ("bits per byte", "before", "after", "change"))
    say("\n" + fill(f"Verdict: {verdict['words']}", 100, subsequent_indent="  ") + "\n")


def _tell(run: Path, result: Mapping[str, Any]) -> None:
    from tinyslm.cli.telling import tell

    tell({"run": run, "model": run / "model", "report": run / "report.html", "result": result})


def describe_score(score: Mapping[str, float]) -> str:
    """One line: bits per byte with its interval, loss and perplexity."""
    return (
        f"{score['bits_per_byte']:.4f} bits per byte ({describe_interval(score)}), "
        f"loss {score['loss']:.4f}, perplexity {score['perplexity']:.2f}"
    )


def describe_interval(score: Mapping[str, float]) -> str:
    """How sure the score is: an interval over documents, which one document does not have."""
    from tinyslm.core.quantities import counted

    if score["documents"] == 1:
        return "one document, so no interval"
    return (
        f"95 % interval {score['low']:.4f} to {score['high']:.4f} over {counted(int(score['documents']), 'document')}"
    )
