"""`tinyslm finetune`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.options import SettingOptions
from tinyslm.core.config import Section

SAMPLES, WIDTH = 2, 65
NO_GAIN = 3
"""The exit code if `--require-gain` is not met."""


class FinetuneOptions(Section):
    """The length of the run, what to train, and what to validate on."""

    minutes: float | None = Field(
        default=None, gt=0, description="How many minutes the run may take, from start to report."
    )
    epochs: float | None = Field(
        default=None, gt=0, description="Passes over the conversations, instead of minutes; 3 if neither is given."
    )
    method: str = Field(
        default="sft",
        description="How the model learns: sft (from answers), dpo (from pairs of answers), grpo or rejection (from "
        "the scores of a grader), or distill (from the predictions of --train.teacher).",
    )
    grader: str | None = Field(
        default=None, description="Scores answers: the name of a grader, or FILE.py:FUNCTION; short for --train.grader."
    )
    full: bool = Field(default=False, description="Train all weights; by default only adapters (LoRA) are trained.")
    rank: int | None = Field(default=None, gt=0, description="Rank of the adapters; short for --lora.rank.")
    valid: tuple[str, ...] = Field(
        default=(),
        description="Files of rows to validate on; by default 5 % of the data is held out, of small data up to 20 %.",
    )
    general: tuple[str, ...] = Field(
        default=(), description="Files of general text to compare with the base on; by default a short set."
    )
    replay: float | None = Field(
        default=None, ge=0, le=0.9, description="Share of general text in the batches, against forgetting, such as 0.1."
    )
    replay_text: tuple[str, ...] = Field(
        default=(), description="Files of that general text; by default Python's documentation."
    )
    require_gain: bool = Field(
        default=False,
        description="Exit with code 3 unless the model is better, beyond the noise, and no worse on general text.",
    )
    lint: Literal["error", "warn", "off"] = Field(
        default="error", description="What checks of the data do: stop at errors, only warn, or nothing."
    )
    lossy: bool = Field(
        default=False, description="Accept a tokenizer that does not restore every text; short for --data.lossy true."
    )
    plan_only: bool = Field(
        default=False, description="Say what would be done, how long it takes and how much memory it needs; no run."
    )
    as_json: Annotated[bool, Parameter(name="--json")] = Field(
        default=False, description="Print the result as JSON, and no progress."
    )


def finetune(
    model: str,
    /,
    *data: str,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    prompts: tuple[str, ...] = (),
    map_: Annotated[tuple[str, ...], Parameter(name="--map")] = (),
    options: Annotated[FinetuneOptions | None, Parameter(name="*")] = None,
    settings: SettingOptions = (),
) -> None:
    """Teach a model a job from examples: conversations, or questions with answers.

    The model learns only the answers. At the end, you see the loss on held-out answers before and after training. An
    interrupted run resumes with `tinyslm train --resume RUN`.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used).
    data
        Files of rows: JSON lines, JSON, CSV, parquet, or text blocks with two labels. Detects these formats: messages,
        ShareGPT, instruction and output, prompt and completion, question and answer; for dpo: prompt, chosen and
        rejected.
    out
        The run folder to write: data, checkpoints, log, report, the adapter, and the model folder with it merged in.
        By default runs/NAME, where NAME is that of the first file, with a number added if there is one already.
    prompts
        Files of prompts for grpo: the same formats, in which answers may be missing.
    map_
        Names of the rows' fields, as prompt=NAME,answer=NAME; also system and context. For dpo:
        prompt=NAME,chosen=NAME,rejected=NAME; also system.
    options
        The length of the run, what to train, and what to validate on.
    settings
        Any setting, as `--section.key value`, for instance `--lora.dora true`; `tinyslm config` lists them all.
    """
    from time import monotonic, process_time

    began = monotonic() - process_time()

    from tinyslm.cli.progress import stopping, watching
    from tinyslm.cli.pull import pulled
    from tinyslm.cli.settings import nested
    from tinyslm.cli.train import new_run
    from tinyslm.core.config import merge
    from tinyslm.core.errors import TinyslmError
    from tinyslm.planning.finetune import finetune as finetune_model
    from tinyslm.planning.methods.method import ExampleFiles
    from tinyslm.training.config import RunConfig

    options = options or FinetuneOptions()
    if prompts and options.method not in ("grpo", "rejection"):
        raise TinyslmError(
            f"--prompts is for the methods grpo and rejection, not for {options.method}.",
            "Give the files of examples after the model.",
        )
    data = (*data, *prompts)
    if not data:
        raise TinyslmError("No examples were given.", "For instance: tinyslm finetune MODEL rows.jsonl --out runs/job")
    if options.full and options.rank:
        raise TinyslmError("--full trains all weights, and --rank is for adapters.", "Give one of them.")
    model = str(pulled(Path(model)))
    given = merge(_of_options(options), nested(RunConfig, settings))
    files = ExampleFiles(data, options.valid, fields_of(map_), options.epochs, options.lint)
    if options.plan_only:
        _say_plan(began, options, {"model": model, "data": files, "settings": given})
        return
    named = new_run(data[0]) if out is None else None
    out = out or named or Path()
    with stopping(out, json=options.as_json), watching(began, json=options.as_json, run=named) as watch:
        result = finetune_model(
            model,
            files,
            out,
            method=options.method,
            minutes=options.minutes,
            settings=given,
            watch=watch,
        )
    if options.as_json:
        from tinyslm.cli.telling import tell

        tell({"run": out, "model": out / "model", "report": out / "report.html", "result": result})
    else:
        say_result(out, result)
    if options.require_gain and not result["verdict"]["passes"]:
        sys.exit(NO_GAIN)


def _say_plan(began: float, options: FinetuneOptions, asked: Mapping[str, Any]) -> None:
    """Plan the run, and print the plan."""
    from tinyslm.cli.progress import watching
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import table
    from tinyslm.planning.finetune import plan_finetune

    with watching(began, json=options.as_json) as watch:
        plan = plan_finetune(**asked, method=options.method, minutes=options.minutes, watch=watch)
    if options.as_json:
        tell({"plan": plan.as_result()})
    else:
        table(plan.lines())


def _of_options(options: FinetuneOptions) -> dict[str, Any]:
    """The settings that have an option of their own."""
    replay = {"share": options.replay} if options.replay is not None else {}
    text = {"text": options.replay_text} if options.replay_text else {}
    general = {"general": options.general} if options.general else {}
    train = {"grader": options.grader} if options.grader else {}
    rank = 0 if options.full else options.rank
    sections = {
        "replay": replay | text,
        "verdict": general,
        "train": train,
        "data": {"lossy": True} if options.lossy else {},
        "lora": {} if rank is None else {"rank": rank},
    }
    return {name: values for name, values in sections.items() if values}


def fields_of(given: tuple[str, ...]) -> dict[str, str]:
    """Parse `--map`. Raises `TinyslmError` for unknown names."""
    from tinyslm.core.errors import TinyslmError, did_you_mean

    allowed = ("prompt", "answer", "chosen", "rejected", "system", "context")
    pairs = [item.partition("=") for one in given for item in one.split(",")]
    for name, equals, field in pairs:
        if not equals or not field or name not in allowed:
            raise TinyslmError(f"--map {name}{equals}{field} is not valid.", did_you_mean(name, allowed))
    return {name: field for name, _, field in pairs}


def say_result(out: Path, result: Mapping[str, Any]) -> None:
    """Print the result of the run, and what to do next."""
    from tinyslm.cli.progress import command
    from tinyslm.core.console import say

    what = "prompts" if "reward" in result else "conversations"
    say(f"\nBefore:       {score_words(result['before'])} on held-out {'prompts' if 'reward' in result else 'answers'}")
    say(f"After:        {score_words(result)} on {result[what]:,} of them")
    _say_verdict(out, result.get("verdict"))
    say(f"Model folder: {out / 'model'}\nReport:       {out / 'report.html'}")
    say(f"Try it:       {command()} chat {out}")


def _say_verdict(out: Path, verdict: Mapping[str, Any] | None) -> None:
    """Print a few answers before and after, and the verdict."""
    from textwrap import fill

    from tinyslm.core.console import say
    from tinyslm.core.printable import one_line
    from tinyslm.evaluation.verdict import Outcome, samples
    from tinyslm.planning.judging import read_outcomes

    if not verdict:
        return
    outcomes: tuple[Outcome, Outcome] | None = read_outcomes(out)
    for one in samples(*outcomes, SAMPLES) if outcomes else []:
        say(f"\nQuestion:     {one_line(one['question'], WIDTH)}")
        wanted = [("wanted", "reference")] if one["reference"] else []
        for name, text in (*wanted, ("before", "before"), ("after", "after")):
            say(f"  {name + ':':12}{one_line(one[text], WIDTH)}")
    words = fill(verdict["words"], WIDTH + 14, initial_indent="Verdict:      ", subsequent_indent=" " * 14)
    say(f"\n{words}")


def score_words(score: Mapping[str, Any]) -> str:
    """The loss with its interval, which a single conversation does not have; for preferences, also the accuracy.

    For reinforcement learning, the reward with its interval.
    """
    if "reward" in score:
        return f"reward {score['reward']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
    interval = (
        f"({score['low']:.4f} to {score['high']:.4f})" if score["conversations"] > 1 else "(no interval: only one)"
    )
    preferred = f", the chosen answer preferred in {score['accuracy']:.0%}" if "accuracy" in score else ""
    return f"loss {score['loss']:.4f} {interval}{preferred}"
