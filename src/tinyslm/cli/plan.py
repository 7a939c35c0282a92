"""`tinyslm plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.options import SettingOptions
from tinyslm.core.config import Section

if TYPE_CHECKING:
    from tinyslm.planning.choice import Budget
    from tinyslm.planning.plan import Plan
    from tinyslm.planning.speedup import Speedup

USUAL_MINUTES = "1,5,10,60,480"


class PlanOptions(Section):
    """The budgets to plan for, and where plans go."""

    minutes: str | None = Field(
        default=None,
        description=f"How long runs may take, with commas between; {USUAL_MINUTES} if nothing is given.",
    )
    hours: str | None = Field(default=None, description="The same in hours.")
    tokens: str | None = Field(
        default=None, description="How many tokens to train on instead, separated by commas, such as 10M."
    )
    params: str | None = Field(default=None, description="Plan models of about so many parameters, such as 3M.")
    memory: float | None = Field(default=None, description="Most memory that training may hold, in GB.")
    world: Annotated[int | None, Parameter(name="--world")] = Field(
        default=None,
        ge=1,
        description="Also say what so many processes would give, each on a machine, socket or GPU like this one.",
    )
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = Field(
        default=(),
        description='Files and folders to leave out, such as "*.log"; can be repeated. Short for --data.exclude.',
    )
    plot: Path | None = Field(default=None, description="Draw the plans into this SVG or PNG file.")
    as_json: Annotated[bool, Parameter(name="--json")] = Field(default=False, description="Print the plans as JSON.")


def plan(
    *paths: str,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c"])] = None,
    tokenizer: Path | None = None,
    options: Annotated[PlanOptions | None, Parameter(name="*")] = None,
    settings: SettingOptions = (),
) -> None:
    """Say for each of several budgets what would be trained and what to expect of it, without training.

    It looks at the text, measures this machine for a few seconds, and searches for the model and the settings with the
    fewest expected bits per byte. Settings that are given (`--section.key value`) are kept.

    Parameters
    ----------
    paths
        Files, folders and globs of text, also in object storage (`s3://BUCKET/FOLDER`), `hf://NAME` for a dataset; or
        one shards folder.
    out
        Write the plan here, as TOML that can be edited and given to `tinyslm train --plan`; for a single budget.
    config
        A TOML or YAML file of settings to keep.
    tokenizer
        A folder with a tokenizer to use instead of choosing one.
    options
        The budgets, and where plans go.
    settings
        Any setting, as `--section.key value`.
    """
    from tinyslm.cli.planning import describe_text, given_settings
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say, warn
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.files import check_file_place
    from tinyslm.planning.planner import Planner
    from tinyslm.tokenizer.tokenizer import Tokenizer

    options = options or PlanOptions()
    if not paths:
        raise TinyslmError("No text to plan for was given.", "For instance: tinyslm plan my-texts/ --minutes 1,10,60")
    given = given_settings(config, (*settings, *(f"data.exclude={pattern}" for pattern in options.exclude)))
    budgets = list(_budgets(options))
    if out is not None and len(budgets) > 1:
        raise TinyslmError("--out takes one plan, and several were asked for.", "Give one budget: --minutes 10")
    for place in filter(None, (out, options.plot)):
        check_file_place(place)
    if options.plot is not None and options.plot.suffix not in (".svg", ".png"):
        raise TinyslmError(f"{options.plot}: plots are drawn as SVG or PNG.", "Give a name that ends in .svg or .png.")
    known = Tokenizer.load(tokenizer) if tokenizer else None
    with working("Planning", json=options.as_json) as progress:
        planner = Planner.look(paths, given, tokenizer=known, progress=progress, notify=warn)
        plans = [planner.plan(one) for one in budgets]
        speedups = _speedups(plans, options.world) if options.world else []
    if out is not None:
        plans[0].write(out)
    if options.plot is not None:
        _draw(plans, options.plot)
    if options.as_json:
        several = {"world": [asdict(one) | {"times": one.times} for one in speedups]} if speedups else {}
        tell(
            {"plans": [_as_json(one) for one in plans]}
            | several
            | plans[0].model_dump(mode="json", include={"data", "machine"})
        )
        return
    say(describe_text(plans[0]))
    _show(plans)
    _show_speedups(plans, speedups)
    if out is not None:
        say(f"Plan: {out}\nTrain by it: tinyslm train {' '.join(paths)} --plan {out} --out RUN")


def _budgets(options: PlanOptions) -> Iterator[Budget]:
    """A budget for each time and each number of tokens that was asked for."""
    from tinyslm.cli.planning import number
    from tinyslm.core.config import build_config
    from tinyslm.core.errors import TinyslmError
    from tinyslm.planning.choice import Budget

    lengths: list[dict[str, Any]] = []
    nothing = options.minutes is None and options.hours is None and options.tokens is None
    for name, text, unit in (("minutes", options.minutes or USUAL_MINUTES * nothing, 1), ("hours", options.hours, 60)):
        for part in (text or "").split(",") if text else ():
            try:
                lengths.append({"minutes": float(part) * unit})
            except ValueError:
                raise TinyslmError(f"--{name} {text}: must be numbers.", f"Such as --{name} 1,5,10") from None
    lengths += [{"tokens": number(part, "--tokens")} for part in (options.tokens or "").split(",") if part]
    limits = {
        "parameters": None if options.params is None else number(options.params, "--params"),
        "memory_bytes": None if options.memory is None else int(options.memory * 1e9),
    }
    for length in lengths:
        yield build_config(Budget, length | limits, origin="the budget")


def _show(plans: Sequence[Plan]) -> None:
    """A row for each plan."""
    from tinyslm.core.console import table
    from tinyslm.core.quantities import count, duration, size

    rows = []
    for one in plans:
        model, expected, train = one.settings.model, one.expectation, one.settings.train
        rows.append(
            (
                duration(expected.seconds),
                count(expected.parameters),
                f"{model.dim} x {model.depth}",
                f"{model.vocab_size:,}",
                f"{model.context:,}",
                f"{train.batch:,}",
                count(expected.tokens),
                f"{expected.epochs:.2g}",
                size(expected.memory_bytes),
                f"{expected.bits_per_byte:.3f}",
                f"{expected.low:.3f} to {expected.high:.3f}",
            )
        )
    titles = "time,parameters,dim x depth,vocabulary,context,batch,tokens,epochs,memory,bits per byte,95 % interval"
    table(rows, titles.split(","))


def _speedups(plans: Sequence[Plan], processes: int) -> list[Speedup]:
    """What so many processes would give each plan; summing is measured where it is done on CPUs."""
    from tinyslm.planning.speedup import speedup
    from tinyslm.training.summing import measure_summing

    for one in plans:
        speedup(one, processes, None)  # raises for too many, before anything is measured
    summing = measure_summing() if plans[0].machine.device == "cpu" else None
    return [speedup(one, processes, summing) for one in plans]


def _show_speedups(plans: Sequence[Plan], speedups: Sequence[Speedup]) -> None:
    """A row for each plan with several processes."""
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import count, duration

    if not speedups:
        return
    rows = [
        (
            duration(plan.expectation.seconds),
            f"{1000 * one.alone:,.0f} ms",
            f"{1000 * one.together:,.0f} ms",
            "not measured" if one.summing is None else f"{1000 * one.summing:,.1f} ms",
            f"{one.times:.2f}",
            f"{one.times / one.processes:.0%}",
            f"{count(one.tokens_per_second)}",
        )
        for plan, one in zip(plans, speedups, strict=True)
    ]
    number = speedups[0].processes
    say(f"\nThe same updates on {number} processes, each on a machine, socket or GPU like this one,")
    say("with a link as fast as between two processes here:")
    titles = "time,update alone,update,of it summing,times as fast,efficiency,tokens/s"
    table(rows, titles.split(","))


def _as_json(plan: Plan) -> dict[str, Any]:
    """A plan for JSON: what to expect, and the settings."""
    expected = plan.expectation.model_dump(mode="json")
    return {"expectation": expected, "settings": plan.settings.model_dump(mode="json")}


def _draw(plans: Sequence[Plan], file: Path) -> None:
    """The expected bits per byte, with their interval, and the parameters, over time."""
    from tinyslm.core.files import write_atomic
    from tinyslm.core.plots import Band, Series, band_chart, grid

    ordered = [one.expectation for one in sorted(plans, key=lambda one: one.expectation.seconds)]
    minutes = [one.seconds / 60 for one in ordered]
    band = Band([one.low for one in ordered], [one.high for one in ordered])
    bits = Series("expected", minutes, [one.bits_per_byte for one in ordered])
    sizes = Series("parameters", minutes, [float(one.parameters) for one in ordered])
    drawn = grid(
        [
            band_chart(bits, band, title="Expected bits per byte", x_title="minutes"),
            band_chart(sizes, None, title="Parameters", x_title="minutes", y_log=True),
        ]
    )
    write_atomic(file, drawn.png() if file.suffix == ".png" else drawn.svg(standing_alone=True))
