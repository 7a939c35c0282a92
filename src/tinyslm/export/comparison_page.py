"""Write a comparison as tables, a page, images and JSON."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic, write_json
from tinyslm.core.page import Block, Figures, Folded, Paragraph, Sample, Section, SideBySide, Table, page
from tinyslm.core.plots import Chart, grid
from tinyslm.core.quantities import count, counted, duration, size
from tinyslm.evaluation.differences import Disagreement, TaskComparison
from tinyslm.evaluation.running import centred_mean
from tinyslm.export.comparing import ComparedModel, Comparison
from tinyslm.export.comparison_charts import draw_quality, draw_scores
from tinyslm.export.measuring import CACHE_TOKENS

HEADER = ("model", "size", "bits/w", "bits/B", "change", "KL", "read/s", "write/s")
LEGEND = (
    "size: of the weights. bits/w: bits per weight. bits/B: bits per byte of the text; lower is better. change: of "
    "bits/B from the first model. KL: mean KL divergence from the first model in nats, if the tokens are the same. "
    "read/s, write/s: tokens per second."
)
COST_HEADER = ("model", "weights", "size", "memory", "read/s", "write/s", "trained", "time")
COST_LEGEND = (
    "size: of the weights as stored. memory: computed for the loaded weights and the KV cache of "
    f"{CACHE_TOKENS:,} tokens, or of the whole context if that is shorter; excludes the program itself. "
    "read/s, write/s: tokens per second. trained, time: tokens and duration of the training."
)
SCORE_HEADER = ("model", "score (95 % interval)", "difference (95 % interval)", "p")
SCORE_COLUMNS = ("model", "score", "low", "high", "difference", "low", "high", "p", "*")
LONGEST_ITEM = 1200
"""Maximum number of characters of an item or an answer on the page."""


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write `comparison.html`, `.png`, `.svg` and `.json` into a folder; returns the path of the page."""
    out.mkdir(parents=True, exist_ok=True)
    names = [model.name for model in comparison.models]
    scores, quality = draw_scores(names, comparison.tasks), draw_quality(comparison.models)
    costs = Table([cost_cells(model) for model in comparison.models], COST_HEADER)
    sections = [
        Section("Scores", _scores(comparison, names, _figures(scores))),
        Section("Quality against size and speed", _quality(comparison, _figures(quality))),
        Section("Cost", [costs, Paragraph(COST_LEGEND)]),
        Section("Samples", list(_samples(comparison, names))),
        Section("Where they disagree", [block for task in comparison.tasks for block in _disagreements(task, names)]),
        Section("Notes", [Paragraph(note) for note in comparison.notes]),
    ]
    if charts := [*scores, *quality]:
        whole = grid(charts)
        write_atomic(out / "comparison.png", whole.png())
        write_atomic(out / "comparison.svg", whole.svg())
    write_json(out / "comparison.json", comparison.as_json())
    shown = [section for section in sections if section.blocks]
    write_atomic(out / "comparison.html", page("Comparison", " · ".join(names), shown))
    return out / "comparison.html"


def check_unused(out: Path) -> None:
    """Raise `TinyslmError` if the path already holds a comparison, or is not a folder."""
    if (out / "comparison.html").exists() or (out.exists() and not out.is_dir()):
        raise TinyslmError(f"{out} already holds a comparison or is a file.", "Give another folder with --out.")


def measured_on(comparison: Comparison) -> str:
    """A sentence on the text that was scored; "" if there was none."""
    if not comparison.passages:
        return ""
    return (
        f"Scored on {comparison.tokens:,} tokens ({size(comparison.utf8_bytes)}) in "
        f"{counted(comparison.passages, 'passage')} spread evenly over the text."
    )


def significance(comparison: Comparison) -> str:
    """An explanation of differences, p-values and the star; "" if nothing was tested."""
    number = comparison.comparisons
    if not number:
        return ""
    corrected = "" if number == 1 else f", corrected for {number} comparisons (Holm)"
    first = comparison.models[0].name
    return (
        f"Differences from {first} on the same items, with a 95 % interval (paired bootstrap). p: probability "
        f"of a difference this large by chance{corrected}. *: p below 0.05, more than noise."
    )


def means(comparison: Comparison) -> str:
    """A sentence with each model's mean over the tasks that all models have a score on; "" for fewer than two tasks."""
    shared = [task.scores for task in comparison.tasks if task.chance is not None and None not in task.scores]
    if len(shared) < 2:
        return ""
    values = (centred_mean([score for score in column if score is not None]) for column in zip(*shared, strict=True))
    named = (f"{model.name} {_shown(value, '.3f')}" for model, value in zip(comparison.models, values, strict=True))
    return f"Mean over {len(shared)} tasks, rescaled so that chance is 0 and a perfect score is 1: {', '.join(named)}."


def cells(model: ComparedModel) -> tuple[str, ...]:
    """A model's row in the table on the text, with the columns of `HEADER`."""
    return (
        model.name,
        _size(model.bytes),
        _shown(model.bits_per_weight, ".2f"),
        _shown(model.bits_per_byte, ".4f"),
        _shown(model.change, "+.2%"),
        _shown(model.mean_kl, ".4f"),
        _shown(model.prefill, ",.0f"),
        _shown(model.decode, ",.0f"),
    )


def cost_cells(model: ComparedModel) -> tuple[str, ...]:
    """A model's row in the table of costs, with the columns of `COST_HEADER`."""
    return (
        model.name,
        "–" if model.parameters is None else count(model.parameters),
        _size(model.bytes),
        _size(model.memory),
        _shown(model.prefill, ",.0f"),
        _shown(model.decode, ",.0f"),
        "–" if model.training_tokens is None else count(model.training_tokens),
        "–" if model.training_seconds is None else duration(model.training_seconds),
    )


def score_cells(name: str, task: TaskComparison, index: int) -> tuple[str, ...]:
    """A model's row in a task's table, with the columns of `SCORE_HEADER`."""
    name, value, low, high, change, least, most, p, mark = _score_columns(name, task, index)
    score = f"{value} ({low} to {high})" if low else value
    return name, score, f"{change} ({least} to {most})" if change else "", f"{p}{mark}"


def _score_columns(name: str, task: TaskComparison, index: int) -> tuple[str, ...]:
    """A model's row in a task's table, with the columns of `SCORE_COLUMNS`."""
    score, difference = task.scores[index], task.differences[index]
    if score is None:
        return name, "–", *[""] * 7
    shown = [f"{value:.3f}" for value in (score.value, score.low, score.high)]
    if difference is None:
        return name, *shown, *[""] * 5
    form = "+.2%" if task.relative else "+.3f"
    changes = [_shown(value, form) for value in (difference.value, difference.low, difference.high)]
    return name, *shown, *changes, f"{difference.corrected:.3f}", "*" if difference.significant else ""


def task_heading(task: TaskComparison) -> str:
    """The heading of a task's table."""
    chance = "" if task.chance is None else f", chance {task.chance:.3f}"
    less = "; lower is better" if task.relative else ""
    return f"{task.task}: {task.metric.replace('_', ' ')} on {task.items:,} items{chance}{less}"


def _figures(charts: Sequence[Chart]) -> Figures:
    return Figures([(chart.svg(), chart.description) for chart in charts])


def _scores(comparison: Comparison, names: Sequence[str], charts: Figures) -> list[Block]:
    if not comparison.tasks:
        return []
    tables = []
    for task in comparison.tasks:
        rows = [_score_columns(name, task, index) for index, name in enumerate(names)]
        tables.append(Table(rows, SCORE_COLUMNS, task_heading(task)))
    return [charts, *tables, *(Paragraph(text) for text in (means(comparison), significance(comparison)) if text)]


def _quality(comparison: Comparison, charts: Figures) -> list[Block]:
    if not comparison.passages:
        return []
    rows = [cells(model) for model in comparison.models]
    return [Paragraph(measured_on(comparison)), charts, Table(rows, HEADER), Paragraph(LEGEND)]


def _samples(comparison: Comparison, names: Sequence[str]) -> Iterator[Block]:
    settings = comparison.sampling
    if comparison.samples:
        drawn = f"temperature {settings.temperature}, seed {settings.seed}"
        how = "greedy decoding" if settings.greedy else drawn
        yield Paragraph(f"All models continue the same prompts: {how}.")
    for sample in comparison.samples:
        yield SideBySide([Sample(name, text, sample.prompt) for name, text in zip(names, sample.texts, strict=True)])


def _disagreements(task: TaskComparison, names: Sequence[str]) -> Iterator[Block]:
    if len(names) < 2:
        return
    yield Paragraph(f"{task.task}: the outcomes of {task.disagreeing:,} of {task.items:,} items differ.")
    if task.groups:
        rows = [(group, *(_shown(value, ".3f") for value in values)) for group, values in task.groups]
        yield Table(rows, ("group", *names), "The groups whose scores differ most")
    if task.disagreements:
        shown = [block for item in task.disagreements for block in _item(task, item, names)]
        yield Folded(f"{len(task.disagreements)} items of {task.task} on which the models differ most", shown)


def _item(task: TaskComparison, item: Disagreement, names: Sequence[str]) -> Iterator[Block]:
    group = f", {item.group}" if item.group else ""
    yield Sample(f"{item.id}{group}", _cut(item.text))
    rows = [
        (name, _shown(value, ".3g"), _cut(answer))
        for name, value, answer in zip(names, item.outcomes, item.answers, strict=True)
    ]
    yield Table(rows, ("model", task.metric.replace("_", " "), "answer"))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_ITEM else f"{text[:LONGEST_ITEM]} …"


def _size(number: int | None) -> str:
    return "–" if number is None else size(number)


def _shown(value: float | None, form: str) -> str:
    """Format a number; `None` becomes a dash, and values that round to zero have no sign."""
    if value is None:
        return "–"
    text = format(value, form)
    return text if text.strip("-0.%") else format(0.0, form)
