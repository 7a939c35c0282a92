"""A run folder as one page and one picture: curves, samples, result, data, configuration and versions."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tinyslm.core.config import flatten
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, DiskError, write_atomic
from tinyslm.core.json_files import read_json
from tinyslm.core.page import (
    Bars,
    Block,
    Figures,
    Folded,
    KeyFigures,
    Paragraph,
    Sample,
    Section,
    SideBySide,
    Table,
    page,
)
from tinyslm.core.plots import Chart, Series, grid, line_chart
from tinyslm.core.quantities import count, counted, duration
from tinyslm.data.used import data_of
from tinyslm.training.metrics import planned_steps, read_metrics
from tinyslm.training.report_details import data_blocks, settings_blocks, shown
from tinyslm.training.verdict_section import AFTER_FILE, BEFORE_FILE, verdict_blocks

Curve = tuple[str, str, Literal["fit", "zero"]]
CURVES: tuple[Curve, ...] = (
    ("loss", "Loss (nats per token)", "fit"),
    ("bits_per_byte", "Bits per byte", "fit"),
    ("reward", "Reward", "zero"),
    ("equal_groups", "Share of groups with equal rewards", "zero"),
    ("answer_tokens", "Tokens of an answer", "zero"),
    ("truncated", "Share of answers that reach the limit", "zero"),
    ("entropy", "Entropy (nats per token)", "zero"),
    ("kl", "KL from the first model (nats per token)", "zero"),
    ("clipped", "Share of clipped tokens", "zero"),
    ("rewards/margins", "Reward margin", "zero"),
    ("rewards/accuracies", "Share of pairs in which the chosen answer has the higher reward", "zero"),
    ("learning_rate", "Learning rate", "zero"),
    ("gradient_norm", "Gradient norm", "zero"),
    ("tokens_per_second", "Tokens per second", "zero"),
)
"""What is drawn: a field of step rows (and of validation rows, where they have it), the chart's title and y axis."""
PART = "reward_"
"""What the fields of the parts of a reward begin with; a chart for each follows."""
LOSS_TITLES = {
    "grpo": "Policy loss",
    "dpo": "Loss (per pair)",
    **dict.fromkeys(("distill_text", "distill_answers"), "Divergence from the teacher (nats per token)"),
}
"""Titles of the loss, where it is no cross-entropy, by stage."""

DISK_FAILED = 3
"""The exit status of this module as a program if the disk is full or cannot be written."""
MOST_SAMPLES = 12
RARELY_READ = {"learning_rate", "gradient_norm", "tokens_per_second", "clipped", "equal_groups"}
"""The fields whose curves are folded."""
WORDS = {
    "loss": "loss, nats per token",
    "bits_per_byte": "bits per byte",
    "documents": "held-out documents",
    "tokens": "held-out tokens",
    "utf8_bytes": "held-out bytes",
    "step": "best after step",
    "training_tokens": "tokens trained on",
    "training_seconds": "seconds of training",
    "planned.bits_per_byte": "expected bits per byte",
    "planned.low": "expected, at least",
    "planned.high": "expected, at most",
    "planned.seconds": "expected seconds",
    "functions.headers": "headers of functions to complete",
    "functions.completions that parse": "completions that parse",
    "functions.originals that parse, cut the same way": "originals that parse, cut the same way",
}
"""What fields of a result are called; others by their name."""


def write_report(run: Path) -> Path:
    """Write `report.html` and, when something can be drawn, `report.png` into the run folder; give the page's path.

    Needs `metrics.jsonl`; what else is missing in the folder is missing in the report. Raises `TinyslmError` when
    there is no `metrics.jsonl` or the folder cannot be written.
    """
    events = read_metrics(run / "metrics.jsonl")
    charts = draw_curves(events)
    result = {**(_first(events, "end").get("result") or {}), **_read(run / "result.json")}
    sections = [
        Section("Verdict", verdict_blocks(result, _read(run / BEFORE_FILE), _read(run / AFTER_FILE))),
        Section("Result", [*_result(result), *_skipped(events)]),
        Section("Warnings", _warnings(events)),
        Section("Curves", _curves(charts)),
        Section("Samples", _samples(events)),
        Section("Pace", _pace(events)),
        Section("Data", data_blocks(_manifest(run))),
        Section("Settings", settings_blocks(_read(run / "config.json"), _read(run / "versions.json"))),
    ]
    good = how_good(result)
    blocks: list[Block] = [
        KeyFigures(_key_figures(events, result)),
        *([Paragraph(good)] if good else []),
        *(section for section in sections if section.blocks),
    ]
    if charts:
        write_atomic(run / "report.png", grid([chart for _, chart in charts]).png())
    write_atomic(run / "report.html", page(run.resolve().name, _subtitle(events), blocks))
    return run / "report.html"


def how_good(result: Mapping[str, Any]) -> str:
    """One sentence on the score of a run on held-out text; empty without one."""
    bits, perplexity = _number(result.get("bits_per_byte")), _number(result.get("perplexity"))
    if bits is None:
        return ""
    baselines = result.get("baselines")
    packed = _number(baselines.get("xz -9")) if isinstance(baselines, Mapping) else None
    compared = f", and the compressor xz {packed:.2f}" if packed is not None else ""
    choices = f" On average it hesitates between {perplexity:,.0f} possible next tokens." if perplexity else ""
    needed = (
        f"For a byte of text that is new to it, the model needs {bits:.2f} bits; without a model it is 8{compared}."
    )
    return needed + choices


def draw_curves(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, Chart]]:
    """Each of `CURVES` that the run recorded, with its field: over tokens if their number is known, else over steps."""
    tokens_per_step = _first(events, "start").get("tokens_per_step")
    scale, x_title = (tokens_per_step, "tokens") if tokens_per_step else (1, "steps")
    charts = []
    parts = {field: f"Reward: {field.removeprefix(PART)}" for row in _all(events, "step") for field in row}
    drawn: dict[str, tuple[str, Literal["fit", "zero"]]] = {field: (title, y_axis) for field, title, y_axis in CURVES}
    drawn |= {field: (title, "zero") for field, title in parts.items() if field.startswith(PART)}
    if title := LOSS_TITLES.get(_first(events, "start").get("stage", "")):
        drawn["loss"] = (title, "fit")
    for field, (title, y_axis) in drawn.items():
        series = []
        rewarded = field == "loss" and "reward" in _first(events, "validation")  # its loss is only 1 - reward
        for event, name in (("step", "train"), *([] if rewarded else [("validation", "validation")])):
            rows = [row for row in _all(events, event) if _number(row.get(field)) is not None]
            if rows:
                series.append(Series(name, [row["step"] * scale for row in rows], [float(row[field]) for row in rows]))
        if series:
            charts.append((field, line_chart(series, title=title, x_title=x_title, y_axis=y_axis)))
    return charts


def _curves(charts: Sequence[tuple[str, Chart]]) -> list[Block]:
    """The curves that tell how the run went, and the others folded below them."""

    def figures(*, rare: bool) -> list[Block]:
        chosen = [chart for field, chart in charts if (field in RARELY_READ) == rare]
        return [Figures([(chart.svg(), chart.description) for chart in chosen])] if chosen else []

    others = figures(rare=True)
    return [*figures(rare=False), *([Folded("More curves", others)] if others else [])]


def _subtitle(events: Sequence[Mapping[str, Any]]) -> str:
    start, end = _first(events, "start"), _first(events, "end")
    step = max((row.get("step", 0) for row in events), default=0)
    planned = planned_steps(events) or step
    resumed = sum(1 for row in _all(events, "start") if row.get("resumed_from"))
    parts = [
        "finished" if end else f"not finished: {step:,} of {counted(planned, 'step')}",
        f"resumed {resumed} {'time' if resumed == 1 else 'times'}" if resumed else "",
        f"started {start['time'].replace('T', ' ').replace('+00:00', ' UTC')}" if "time" in start else "",
    ]
    return " · ".join(part for part in parts if part)


def _key_figures(events: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> list[tuple[str, str]]:
    start, end = _first(events, "start"), _first(events, "end")
    steps, validations = _all(events, "step"), _all(events, "validation")
    last = steps[-1] if steps else {}
    measured = result if "bits_per_byte" in result else validations[-1] if validations else last
    kind = "train" if measured is last else "validation"
    speeds = sorted(filter(None, (_number(row.get("tokens_per_second")) for row in steps)))
    done = last.get("step", 0)
    tokens = last.get("tokens") or done * start.get("tokens_per_step", 0)
    seconds = _number(end.get("seconds")) or _number(last.get("seconds"))
    bits, loss = _number(measured.get("bits_per_byte")), _number(measured.get("loss"))
    figures = [
        (f"bits per byte, {kind}", f"{bits:.3f}" if bits is not None else ""),
        (f"loss, {kind}", f"{loss:.3f}" if loss is not None else ""),
        ("parameters", count(start["parameters"]) if "parameters" in start else ""),
        ("steps", f"{done:,}"),
        ("tokens", count(tokens) if tokens else ""),
        ("tokens/s, median", f"{speeds[len(speeds) // 2]:,.0f}" if speeds else ""),
        ("time", duration(seconds) if seconds else ""),
    ]
    return [(name, value) for name, value in figures if value]


def _result(result: Mapping[str, Any]) -> list[Block]:
    """The result of the run, with baselines where it has them."""
    blocks: list[Block] = []
    judged = "verdict" in result  # which says what matters
    result = {key: value for key, value in result.items() if key != "verdict"}
    bits, baselines = _number(result.get("bits_per_byte")), result.get("baselines")
    if isinstance(baselines, Mapping) and bits is not None:
        compared = {"this model": bits, **{name: _number(value) for name, value in baselines.items()}}
        blocks.append(Paragraph("Bits per byte on text that was not trained on; less is better."))
        blocks.append(Bars([(name, value, f"{value:.3f}") for name, value in compared.items() if value is not None]))
        result = {key: value for key, value in result.items() if key != "baselines"}
    if bits is not None and "low" in result and "high" in result:
        interval = f"{shown(bits)} (95 % interval: {shown(result['low'])} to {shown(result['high'])})"
        result = {key: value for key, value in result.items() if key not in {"low", "high"}}
        result["bits_per_byte"] = interval
    if result:
        table = Table([(WORDS.get(key, key.replace("_", " ")), shown(value)) for key, value in flatten(result)])
        blocks.append(Folded("All figures", [table]) if judged else table)
    return blocks


def _warnings(events: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What the run warned of, each once."""
    said = {f"{row.get('text', '')}": row.get("step", 0) for row in _all(events, "warning")[::-1]}
    return [Table([(f"step {step:,}", text) for text, step in reversed(said.items())])] if said else []


def _skipped(events: Sequence[Mapping[str, Any]]) -> list[Block]:
    rows = [(f"{row.get('step', '–')}", f"{row.get('reason', '')}") for row in _all(events, "skipped")]
    if not rows:
        return []
    steps = counted(len(rows), "step")
    return [
        Paragraph(f"{steps} did not update the weights."),
        Folded("Which, and why", [Table(rows, ("step", "reason"))]),
    ]


def _pace(events: Sequence[Mapping[str, Any]]) -> list[Block]:
    """How the number of updates was corrected so that the run ended on time."""
    rows = [
        (
            f"{row['step']:,}",
            f"{row['position']:.0%}",
            duration(row["seconds"]),
            f"{row['before']:,}",
            f"{row['steps']:,}",
        )
        for row in _all(events, "pace")
    ]
    how = _computing(_first(events, "start").get("compiling") or {})
    if not rows:
        return how
    header = ("after step", "of the schedule", "time", "steps planned before", "steps planned since")
    return [
        Paragraph("The number of steps was set anew on the way, for the run to end on time."),
        Folded("When, and to what", [Table(rows, header)]),
        *how,
    ]


def _computing(compiling: Mapping[str, Any]) -> list[Block]:
    """Whether the updates were compiled, and what was measured before that was decided."""
    if not compiling:
        return []
    way = "compiled with torch.compile" if compiling["on"] else "not compiled with torch.compile"
    ways = [("as written", compiling.get("eager")), ("compiled", compiling.get("compiled"))]
    timed = " and ".join(f"{1000 * seconds:.4g} ms {name}" for name, seconds in ways if seconds)
    warm_up = compiling.get("warm_up")
    spent = f"; compiling took {warm_up:.3g} s" if warm_up is not None else ""
    measured = f" Measured before: {timed}{spent}." if timed else ""
    return [Paragraph(f"Updates were {way}: {compiling['reason']}.{measured}")]


def _samples(events: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The first sample, one of the middle and the newest side by side; others from all over the run folded below."""
    rows = _all(events, "sample")
    if not rows:
        return []
    shown_numbers = sorted({0, (len(rows) - 1) // 2, len(rows) - 1})
    others = [row for number, row in enumerate(rows) if number not in shown_numbers]
    spread = others[:: math.ceil(len(others) / MOST_SAMPLES)] if others else []
    side = SideBySide([_sample(rows[number]) for number in shown_numbers])
    return [side, *([Folded("More samples", [_sample(row) for row in spread])] if spread else [])]


def _sample(row: Mapping[str, Any]) -> Sample:
    after = counted(row.get("step", 0), "step")
    return Sample(f"after {after}", f"{row.get('text', '')}", f"{row.get('prompt') or ''}")


def _manifest(run: Path) -> dict[str, Any]:
    """The manifest of the data that the run learned from; an empty one if it is not there any more."""
    try:
        data = data_of(run)
    except TinyslmError:
        return {}
    return _read(data / MANIFEST) if data else {}


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when the file is missing or damaged: a report shows what there is."""
    try:
        return read_json(path)
    except TinyslmError:
        return {}


def _all(events: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [row for row in events if row["event"] == kind]


def _first(events: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any]:
    return next((row for row in events if row["event"] == kind), {})


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


if __name__ == "__main__":
    try:
        write_report(Path(sys.argv[1]))
    except DiskError as error:
        sys.stderr.write(error.problem)
        sys.exit(DISK_FAILED)
