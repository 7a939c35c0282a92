"""`tinyslm evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tinyslm.cli.options import SettingOptions
from tinyslm.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from tinyslm.evaluation.running import TaskScore


def evaluate(
    model: str,
    /,
    *paths: str,
    tasks: tuple[str, ...] = (),
    training: tuple[str, ...] = (),
    evaluation: Annotated[EvaluationSettings | None, Parameter(name="*")] = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    json: bool = False,
    settings: SettingOptions = (),
) -> None:
    """Score a model on tasks, or on text: loss, perplexity, and bits per byte.

    Every score has a 95 % bootstrap interval over the items or documents.

    Parameters
    ----------
    model
        A model folder, or a run folder (its model is used). With --tasks also a GGUF file, an ONNX folder, or a server
        with an OpenAI-compatible API: http://127.0.0.1:8000/v1#MODEL
    paths
        Text to score, as for `tinyslm train`; or one shards folder, whose validation documents are scored.
    tasks
        Tasks, separated by commas: NAME (a built-in set, or a benchmark from the hub), NAME=FILE (a benchmark in its
        published format), FILE.toml (your own task). "list" shows the names.
    training
        Text that the model was trained on, to count the items that it contains. By default the data of the model's run.
    evaluation
        Settings of task evaluation.
    out
        A JSON file to write all scores to, with the outcome of each item.
    json
        Print the scores as JSON.
    settings
        A setting of the section `data`, for instance `--data.text_column NAME`.
    """
    from dataclasses import asdict

    from tinyslm.cli.pull import pulled_name
    from tinyslm.cli.settings import settings as read_settings
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.files import check_file_place
    from tinyslm.training.config import RunConfig

    config = read_settings(RunConfig, None, settings).data
    evaluation = evaluation or EvaluationSettings()
    if tasks and paths:
        raise TinyslmError("Both text and tasks were given.", "Run the command once for each.")
    if tasks and evaluation.stride is not None:
        raise TinyslmError("--stride is for text, and tasks were given.", "Leave it out.")
    if not tasks and (out is not None or training):
        raise TinyslmError("--out and --training are for tasks, and none were given.", "Name tasks with --tasks.")
    if out is not None:
        check_file_place(out)  # before long work
    if tasks == ("list",):
        _list(evaluation.plugin)
        return
    model = pulled_name(model)
    if tasks:
        _score_tasks(model, tasks, evaluation, _texts(training), out, json=json)
    else:
        from tinyslm.cli.train import describe_score
        from tinyslm.core.console import say, warn
        from tinyslm.evaluation.score import evaluate as score_text
        from tinyslm.model.folder import find_model

        with working("Scoring", json=json) as progress:
            score = score_text(
                find_model(Path(model)),
                paths,
                stride=evaluation.stride,
                dtype=evaluation.dtype,
                config=config,
                notify=warn,
                progress=progress,
            )
        say(describe_score(asdict(score))) if not json else tell(asdict(score))


def _score_tasks(
    model: str,
    tasks: tuple[str, ...],
    evaluation: EvaluationSettings,
    training: list[str] | None,
    out: Path | None,
    *,
    json: bool,
) -> None:
    """Run tasks, and print their scores or write them."""
    from tinyslm.cli.telling import working
    from tinyslm.export.evaluating import evaluate_tasks

    with working(f"Evaluating {model}", json=json, unit="{:,.0f}".format) as progress:
        scores = evaluate_tasks(model, tasks, settings=evaluation, training=training, progress=progress)
    give_scores(model, scores, evaluation, out, json=json)


def give_scores(
    model: str, scores: Sequence["TaskScore"], evaluation: EvaluationSettings, out: Path | None, *, json: bool
) -> None:
    """Print scores, and write them with the outcome of each item to `out`."""
    from dataclasses import asdict

    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.core.files import write_json

    if out is not None:
        written = [asdict(score) for score in scores]
        write_json(out, {"model": model, "settings": evaluation.model_dump(), "scores": written})
    if json:
        tell([asdict(score) | {"ids": None, "outcomes": None, "answers": None} for score in scores])
        return
    _print(scores)
    if out is not None:
        say(f"\nScores and items: {out}")


def _print(scores: Sequence["TaskScore"]) -> None:
    """Print the table of scores, and remarks below it."""
    from textwrap import fill

    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import duration
    from tinyslm.evaluation.running import centred_mean

    rows, remarks = [], []
    for score in scores:
        above = {None: "–", True: "yes", False: "no"}[score.above_chance]
        overlap = "–" if score.overlap is None else f"{score.overlap.found:,} of {score.overlap.checked:,}"
        names = [score.metric, *(name for name in score.metrics if name != score.metric)]
        for name in names:
            one = score.metrics[name]
            first = name == score.metric
            rows.append((
                score.task if first else "",
                name,
                f"{one.value:.4f}",
                f"{one.low:.4f} to {one.high:.4f}",
                "–" if score.chance is None or not first else f"{score.chance:.3f}",
                above if first else "",
                f"{score.items:,}" if first else "",
                overlap if first else "",
                duration(score.seconds) if first else "",
            ))  # fmt: skip
        remarks += [f"{score.task}: {remark}" for remark in _remarks(score)]
    say()
    table(rows, ("task", "metric", "score", "95 % interval", "chance", "above", "items", "in training", "time"))
    if len(scores) > 1 and (mean := centred_mean(scores)) is not None:
        say(f"\nMean over tasks, rescaled so that chance is 0 and a perfect score is 1: {mean:.4f}")
    if remarks:
        say()
    for remark in remarks:
        say(fill(remark, 100, subsequent_indent="  "))


def _remarks(score: "TaskScore") -> list[str]:
    found = list(score.notes)
    if score.dropped:
        found.append(f"{score.dropped:,} rows were skipped: their two texts are equal, or their text is empty.")
    if score.truncated:
        found.append(f"{score.truncated:,} items are longer than the context and were cut on the left.")
    if score.overlap is not None and score.overlap.found and score.overlap.value_without is not None:
        found.append(f"the score without the items in the training data is {score.overlap.value_without:.4f}.")
    if score.seeds > 1:
        found.append(f"mean of {score.seeds} seeds, standard deviation {score.seed_spread:.4f}.")
    if score.above_chance is False:
        found.append("the interval reaches down to chance, so the score says little.")
    return found


def _texts(paths: Sequence[str]) -> list[str] | None:
    from tinyslm.core.console import warn
    from tinyslm.data.reading import read_documents

    return [piece.text for piece in read_documents(paths, None, notify=warn)] if paths else None


def _list(plugins: Sequence[str]) -> None:
    from tinyslm.core.console import table
    from tinyslm.core.plugins import load_plugins
    from tinyslm.evaluation.tasks.loading import TASKS

    load_plugins(tuple(plugins))
    rows = []
    for name in TASKS:
        one = TASKS[name]
        where = "shipped" if one.file else "generated" if one.make else f"hub: {one.hub[0]}" if one.hub else "file"
        rows.append((name, one.kind.name, where, one.about))
    table(rows, ("name", "kind", "from", "what it tests"))
