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
    from tinyslm.training.run import Run


class TrainOptions(Section):
    """What is not a setting of the run, or short for one."""

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
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = Field(
        default=(),
        description='Files and folders to leave out, such as "*.log"; can be repeated. Short for --data.exclude.',
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
    """Train a model on text, or go on with a run that was interrupted.

    Unless the model's shape is given (`--model.dim`, `--model.depth`), it is planned: this machine and the text are
    looked at, and the settings are chosen that promise the fewest bits per byte in the time. What was given stays.

    Every setting can be given as `--section.key value`, for instance `--model.depth 6 --train.steps 2000`;
    `tinyslm config` lists them all with their meaning.

    Parameters
    ----------
    paths
        Files, folders and globs of text (.txt .md .py ... .html .jsonl .csv .parquet, also .gz and .zst), `-` for
        standard input, `hf://NAME` for a dataset; or one shards folder made by `tinyslm data prepare`.
    out
        The run folder to write: checkpoints, log, report and the finished model folder.
    resume
        The run folder of an interrupted run to go on with.
    config
        A TOML or YAML file of settings.
    tokenizer
        A folder with a tokenizer to use instead of training one.
    options
        What is short for a setting, and how the result is told.
    settings
        Any setting, as `--section.key value`.
    """
    from time import monotonic, process_time

    begun = monotonic() - process_time()  # the start of the program counts too, and it was little but computing

    from tinyslm.cli.planning import given_settings
    from tinyslm.cli.settings import settings as read_settings
    from tinyslm.cli.starting import Order, begin
    from tinyslm.core.errors import TinyslmError
    from tinyslm.training.config import RunConfig

    options = options or TrainOptions()
    settings = (*settings, *_short_forms(options))
    if resume is not None:
        if paths or out or tokenizer:
            raise TinyslmError(
                "--resume takes no paths, --out or --tokenizer: a run knows its own data.",
                f"Run: tinyslm train --resume {resume}",
            )
        _resume(resume, config, settings, json=options.as_json)
        return
    if not paths or out is None:
        raise TinyslmError(
            "Nothing to train on was given." if not paths else "No run folder was given.",
            "For instance: tinyslm train my-texts/ --out runs/first",
        )
    order = Order(
        paths,
        out,
        given_settings(config, settings),
        read_settings(RunConfig, config, settings),
        begun,
        tokenizer=tokenizer,
        plan=options.plan,
        params=options.params,
        memory=options.memory,
        json=options.as_json,
    )
    _finish(begin(order), json=options.as_json)


def _short_forms(options: TrainOptions) -> Iterator[str]:
    """The settings that options are short for."""
    from tinyslm.core.errors import TinyslmError

    if options.minutes is not None and options.hours is not None:
        raise TinyslmError("--minutes and --hours are two forms of one setting.", "Give one of them.")
    if options.minutes is not None:
        yield f"train.minutes={options.minutes}"
    if options.hours is not None:
        yield f"train.minutes={60 * options.hours}"
    if options.tokens is not None:
        yield f"train.tokens={options.tokens}"
    if options.strict:
        yield "data.strict=true"
    yield from (f"data.exclude={pattern}" for pattern in options.exclude)


def _resume(folder: Path, config: Path | None, settings: tuple[str, ...], *, json: bool) -> None:
    from tinyslm.cli.settings import nested
    from tinyslm.core.config import build_config, override, read_config_file
    from tinyslm.core.console import say, warn
    from tinyslm.core.json_files import read_json
    from tinyslm.training.config import RunConfig
    from tinyslm.training.ending import finished_result
    from tinyslm.training.run import Run
    from tinyslm.training.run_folder import RunFolder

    result = finished_result(folder)
    if result is not None and json:
        _tell(folder, result)
        return
    if result is not None:
        say(f"The run in {folder} has finished: its model is {folder / 'model'}.")
        return
    changes = override(RunConfig, read_config_file(config) if config else {}, nested(RunConfig, settings))
    stored = read_json(RunFolder.open(folder).config_file)
    run = Run.resume(folder, build_config(RunConfig, override(RunConfig, stored, changes)) if changes else None, warn)
    if not json:
        say(f"Going on after step {run.progress.step:,} of {run.steps:,}.")
    _finish(run, json=json)


def _finish(run: Run, *, json: bool) -> None:
    """Train to the end with the progress shown; Ctrl-C saves and says how to go on."""
    from tinyslm.cli.planning import describe_expected
    from tinyslm.cli.progress import command, stopping, warning, watching
    from tinyslm.core.console import say
    from tinyslm.training.pipeline import finish

    path = run.folder.path
    if json:
        with stopping(path, json=True):
            _tell(path, finish(run, warning))
        return
    with stopping(path), watching(run) as watch:
        result = finish(run, watch)
    say(f"\nValidation: {describe_score(result)}")
    if planned := result.get("planned"):
        say(f"Expected:   {describe_expected(planned)}")
    say(f"Model folder: {path / 'model'}\nReport:       {path / 'report.html'}")
    say(f"Try it:       {command()} generate {path / 'model'} --prompt 'Once'")


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
    if score["documents"] == 1:
        return "one document, so no interval"
    return f"95 % interval {score['low']:.4f} to {score['high']:.4f} over {score['documents']:,} documents"
