"""A comparison as tables, a page, a picture and JSON."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic, write_json
from tinyslm.core.page import Block, Figures, Folded, Paragraph, Sample, Section, SideBySide, Table, page
from tinyslm.core.plots import Chart, grid
from tinyslm.core.quantities import count, duration, size
from tinyslm.evaluation.differences import Disagreement, TaskComparison
from tinyslm.evaluation.running import centred_mean
from tinyslm.export.comparing import Compared, Comparison
from tinyslm.export.comparison_charts import draw_quality, draw_scores
from tinyslm.export.measuring import CACHE_TOKENS

HEADER = ("model", "size", "bits/w", "bits/B", "change", "KL", "read/s", "write/s")
LEGEND = (
    "size: of the weights. bits/w: for each of them. bits/B: bits per byte of the text; less is better. change: of "
    "that, against the first. KL: nats, of the first from this one, where both have the same tokens. read/s, write/s: "
    "tokens per second."
)
COST_HEADER = ("model", "weights", "size", "memory", "read/s", "write/s", "trained", "time")
COST_LEGEND = (
    "size: of the weights as stored. memory: of the weights in use, and of the cache for "
    f"{CACHE_TOKENS:,} tokens, or for the whole context where that is shorter; computed, without the program itself. "
    "read/s, write/s: tokens per second. trained, time: tokens that it was trained on, and how long that took."
)
SCORE_HEADER = ("model", "score (95 % interval)", "difference (95 % interval)", "p")
SCORE_COLUMNS = ("model", "score", "low", "high", "difference", "low", "high", "p", "*")
LONGEST_ITEM = 1200
"""Characters of an item, and of an answer, on the page."""


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write `comparison.html`, `.png`, `.svg` and `.json` into a folder; gives the page's path."""
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
    """Raise `TinyslmError` where a comparison, or no folder, is already."""
    if (out / "comparison.html").exists() or (out.exists() and not out.is_dir()):
        raise TinyslmError(f"{out} already holds a comparison or is a file.", "Give another folder with --out.")


def measured_on(comparison: Comparison) -> str:
    """What text was scored, in words; "" where there was none."""
    if not comparison.passages:
        return ""
    return (
        f"Scored on {comparison.tokens:,} tokens ({size(comparison.utf8_bytes)}) in {comparison.passages} passages "
        "from all over the text."
    )


def significance(comparison: Comparison) -> str:
    """What a difference's mark means, in words; "" where nothing was tested."""
    number = comparison.comparisons
    if not number:
        return ""
    corrected = "" if number == 1 else f", corrected for {number} comparisons (Holm)"
    first = comparison.models[0].name
    return (
        f"Differences from {first} on the same items, with a 95 % interval (paired bootstrap). p: of a difference as "
        f"large by chance{corrected}. *: below 0.05, more than noise."
    )


def means(comparison: Comparison) -> str:
    """Each model's mean over the tasks that all of them have a score on, in words; "" for fewer than two tasks."""
    shared = [task.scores for task in comparison.tasks if task.chance is not None and None not in task.scores]
    if len(shared) < 2:
        return ""
    values = (centred_mean([score for score in column if score is not None]) for column in zip(*shared, strict=True))
    named = (f"{model.name} {_shown(value, '.3f')}" for model, value in zip(comparison.models, values, strict=True))
    return f"Mean over {len(shared)} tasks, 0 at chance and 1 at best: {', '.join(named)}."


def cells(model: Compared) -> tuple[str, ...]:
    """A model's row of the table on a text, as `HEADER` has it."""
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


def cost_cells(model: Compared) -> tuple[str, ...]:
    """A model's row of the table of costs, as `COST_HEADER` has it."""
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
    """A model's row of the table of a task, as `SCORE_HEADER` has it."""
    name, value, low, high, change, least, most, p, mark = _score_columns(name, task, index)
    score = f"{value} ({low} to {high})" if low else value
    return name, score, f"{change} ({least} to {most})" if change else "", f"{p}{mark}"


def _score_columns(name: str, task: TaskComparison, index: int) -> tuple[str, ...]:
    """The same in a column for each number."""
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
    """What a task's table shows, in words."""
    chance = "" if task.chance is None else f", chance {task.chance:.3f}"
    less = "; less is better" if task.relative else ""
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
        how = "the most probable tokens" if settings.greedy else drawn
        yield Paragraph(f"The same prompts for all, {how}.")
    for sample in comparison.samples:
        yield SideBySide([Sample(name, text, sample.prompt) for name, text in zip(names, sample.texts, strict=True)])


def _disagreements(task: TaskComparison, names: Sequence[str]) -> Iterator[Block]:
    if len(names) < 2:
        return
    yield Paragraph(f"{task.task}: the outcomes of {task.disagreeing:,} of {task.items:,} items differ.")
    if task.groups:
        rows = [(group, *(_shown(value, ".3f") for value in values)) for group, values in task.groups]
        yield Table(rows, ("part", *names), "The parts of the task where scores differ most")
    if task.disagreements:
        shown = [block for item in task.disagreements for block in _item(task, item, names)]
        yield Folded(f"{len(task.disagreements)} items of {task.task} on which they differ most", shown)


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
    """A number, or a dash for none; what rounds to zero has no sign."""
    if value is None:
        return "–"
    text = format(value, form)
    return text if text.strip("-0.%") else format(0.0, form)
