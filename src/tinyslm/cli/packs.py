"""`tinyslm packs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.options import SettingOptions
from tinyslm.core.config import Section
from tinyslm.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from tinyslm.packs.pack import Pack


class PackRowsOptions(Section):
    """What a model learns from."""

    rows: int | None = Field(
        default=None,
        gt=0,
        description="Rows to generate; by default as many as the pack says, or more for a new model.",
    )
    seed: int = Field(default=1, ge=0, description="Decides which rows are generated.")
    import_: Annotated[tuple[str, ...], Parameter(name="--import")] = Field(
        default=(), description="Files of your own rows, or published ones, in a form that the pack reads."
    )


class PackTrainOptions(PackRowsOptions):
    """How long a model learns, and what it learns from."""

    minutes: float | None = Field(
        default=None, gt=0, description="Minutes of the run; by default it makes three passes over the rows."
    )
    params: str | None = Field(
        default=None, description="Instead of a model: train a new one of about so many parameters, such as 5M."
    )


def list_(*, json: bool = False) -> None:
    """List the packs.

    Parameters
    ----------
    json
        Print the list as JSON.
    """
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import table
    from tinyslm.core.plugins import load_plugins
    from tinyslm.packs.pack import PACKS

    load_plugins()
    packs = [PACKS[name] for name in PACKS]
    if json:
        tell([{"name": pack.name, "about": pack.about, "skills": [one.name for one in pack.skills]} for pack in packs])
    else:
        table([(pack.name, ", ".join(one.name for one in pack.skills), pack.about) for pack in packs])


def show(pack: str, /, *, rows: int = 1, json: bool = False) -> None:
    """Show the skills of a pack, its tasks, and examples of what is asked and answered.

    Parameters
    ----------
    pack
        The name of a pack (`tinyslm packs list` shows them), or a Python file that adds one.
    rows
        Examples of each skill.
    json
        Print the examples as JSON.
    """
    from itertools import islice

    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.packs.pack import unique_rows

    found = _pack(pack)
    shown = {skill.name: list(islice(unique_rows(skill, "train", 1), rows)) for skill in found.skills}
    if json:
        tell({"name": found.name, "about": found.about, "tasks": found.tasks, "examples": shown})
        return
    say(f"{found.name}: {found.about}")
    for skill in found.skills:
        say(f"\n{skill.name}: {skill.about} (task {found.name}_{skill.name})")
        for row in shown[skill.name]:
            for message in row["messages"]:
                calls = "".join(f" [calls {one['function']}]" for one in message.get("tool_calls", ()))
                say(f"  {message['role'] + ':':11}{message['content']}{calls}".replace("\n", f"\n{'':13}"))


def data(
    pack: str,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    options: Annotated[PackRowsOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Write the rows of a pack: `train.jsonl` to learn from, `test.jsonl` to test on.

    Test rows use templates, names and combinations that no row to learn from uses; those that share 13 words in a row
    with what is learned are left out.

    Parameters
    ----------
    pack
        The name of a pack, or a Python file that adds one.
    out
        The folder to write; it must not exist.
    options
        What a model learns from.
    json
        Print the counts as JSON.
    """
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.core.locks import new_output
    from tinyslm.core.quantities import counted
    from tinyslm.packs.rows import make_rows

    options = options or PackRowsOptions()
    with new_output(out):
        made = make_rows(_pack(pack), options.rows, seed=options.seed, files=options.import_)
        made.write(out)
    counts = {"train": len(made.train), "test": len(made.test), "skills": made.skills, "imported": made.imported}
    left_out = {"unused": made.unused, "overlapping": made.overlapping}
    if json:
        tell({"out": out, **counts, **left_out})
        return
    skills = ", ".join(f"{name} {n:,}" for name, n in made.skills.items())
    say(f"To learn from: {counted(len(made.train), 'row')} ({skills})")
    overlapping = f"{made.overlapping:,} were left out, as they overlap with the others"
    say(f"To test on:    {counted(len(made.test), 'row')}; {overlapping}")
    if options.import_:
        say(f"Imported:      {counted(made.imported, 'row')}; {made.unused:,} fit no skill")
    say(f"Folder:        {out}")


def train(
    pack: str,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    model: str | None = None,
    options: Annotated[PackTrainOptions | None, Parameter(name="*")] = None,
    json: bool = False,
    settings: SettingOptions = (),
) -> None:
    """Teach a model a pack, as `tinyslm finetune` does with its rows.

    An interrupted run resumes with `tinyslm train --resume RUN`.

    Parameters
    ----------
    pack
        The name of a pack, or a Python file that adds one.
    out
        The run folder to write.
    model
        A model folder, or a run folder (its model is used).
    options
        The length of the run, and what the model learns from.
    json
        Print the result as JSON, and no progress.
    settings
        Any setting, as `--section.key value`; see `tinyslm finetune`.
    """
    from time import monotonic, process_time

    began = monotonic() - process_time()

    from tinyslm.cli.finetune import say_result
    from tinyslm.cli.planning import number
    from tinyslm.cli.progress import command, stopping, watching
    from tinyslm.cli.pull import pulled_name
    from tinyslm.cli.settings import nested
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.core.errors import TinyslmError
    from tinyslm.packs.rows import make_rows
    from tinyslm.packs.teaching import rows_for, train_pack
    from tinyslm.training.config import RunConfig

    found, options = _pack(pack), options or PackTrainOptions()
    if (model is None) == (options.params is None):
        raise TinyslmError("Give either a model or --params.", f"For instance: tinyslm packs train {pack} --params 5M")
    learner = number(options.params, "--params") if options.params else pulled_name(str(model))
    given = nested(RunConfig, settings)
    with stopping(out, json=json), watching(began, json=json) as watch:
        rows = make_rows(found, options.rows or rows_for(found, learner), seed=options.seed, files=options.import_)
        if rows.unused:
            watch.notify(f"{rows.unused:,} rows of the files fit no skill of the pack and were left out.")
        result = train_pack(found, learner, out, minutes=options.minutes, rows=rows, settings=given, watch=watch)
    if json:
        tell({"run": out, "model": out / "model", "report": out / "report.html", "result": result})
        return
    say_result(out, result)
    say(f"Score it:     {command()} packs evaluate {pack} {out}")


def evaluate(
    pack: str,
    model: str | None = None,
    /,
    *,
    baseline: bool = False,
    evaluation: Annotated[EvaluationSettings | None, Parameter(name="*")] = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    json: bool = False,
) -> None:
    """Score a model on the tasks of a pack, on questions that it does not learn from. Tool calls are executed.

    Parameters
    ----------
    pack
        The name of a pack, or a Python file that adds one.
    model
        A model folder, a run folder, or a server with an OpenAI-compatible API: http://127.0.0.1:8000/v1#MODEL
    baseline
        Score the pack's program that answers without a model, instead of a model.
    evaluation
        Settings of task evaluation.
    out
        A JSON file to write all scores to, with the outcome of each item.
    json
        Print the scores as JSON.
    """
    from tinyslm.cli.evaluate import evaluate as evaluate_model
    from tinyslm.cli.evaluate import give_scores
    from tinyslm.core.errors import TinyslmError

    found = _pack(pack)
    if (model is None) != baseline:
        raise TinyslmError("Give either a model or --baseline.", f"For instance: tinyslm packs evaluate {pack} MODEL")
    if model is not None:
        evaluate_model(model, tasks=tuple(found.tasks), evaluation=evaluation, out=out, json=json)
        return
    from tinyslm.packs.answering import evaluate_baseline

    evaluation = evaluation or EvaluationSettings()
    give_scores(f"baseline of {pack}", evaluate_baseline(found, evaluation.limit), evaluation, out, json=json)


def demo(
    pack: str,
    file: Path,
    request: str = "",
    /,
    *,
    model: str,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    json: bool = False,
) -> None:
    """Let a taught model do the pack's job on a file of yours.

    Parameters
    ----------
    pack
        The name of a pack, or a Python file that adds one.
    file
        The file to work on: for excel a sheet (.xlsx or .csv), for prices a page or a text, for security a log.
    request
        What you want, in your words; for excel only.
    model
        A model folder, or a run folder (its model is used).
    out
        Where to write the result; for excel a copy of the sheet.
    json
        Print the result as JSON.
    """
    from tinyslm.cli.pull import pulled_name
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.packs.answering import run_demo

    shown = run_demo(_pack(pack), file, request, pulled_name(model), out)
    if json:
        tell({"result": shown.data, "written": shown.written})
        return
    for line in shown.lines:
        say(line)
    if shown.written is not None:
        say(f"Written: {shown.written}")


def _pack(name: str) -> Pack:
    """The pack of a name, or that of a Python file. Raises `TinyslmError` for unknown packs, and for other files."""
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.plugins import load_plugins
    from tinyslm.packs.pack import PACKS

    load_plugins()
    if not name.endswith(".py"):
        return PACKS[name]
    known = set(PACKS)
    load_plugins((name,))
    added = [one for one in PACKS if one not in known]
    if len(added) != 1:
        raise TinyslmError(f"{name} adds {len(added)} packs.", "Let it call add_pack once; see docs/own-pack.md.")
    return PACKS[added[0]]
