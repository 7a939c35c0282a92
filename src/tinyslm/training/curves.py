"""Read and plot loss curves of other training programs together with ours.

Supports the files of nanoGPT (its printed log), transformers (`trainer_state.json`), litgpt and Lightning
(`metrics.csv`), TensorBoard and Weights & Biases (their CSV exports), and other CSV, JSON and JSON lines files.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.files import write_atomic
from tinyslm.core.page import Block, Figures, Paragraph, Section, Table, page
from tinyslm.core.plots import PALETTE, Chart, Series, line_chart
from tinyslm.core.quantities import size
from tinyslm.training.metrics import read_metrics

STEPS = ("step", "global_step", "trainer_global_step", "iter", "iteration", "iters", "iter_num", "update")
TOKENS = ("tokens", "total_tokens", "tokens_seen", "num_input_tokens_seen")
TRAINING = ("loss", "train_loss", "training_loss", "value")
VALIDATION = ("val_loss", "eval_loss", "valid_loss", "validation_loss")
"""Usual column names, normalized by `_plain`, the most likely first. TensorBoard exports call the column "Value"."""
METRICS = "metrics.jsonl"
LARGEST_FILE = 1 << 28  # bytes
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".log", ".txt")
CAUTION = (
    "Loss is in nats per token: compare it only between runs with the same tokenizer and the same validation text. "
    "Bits per byte compare across tokenizers (tinyslm evaluate, tinyslm compare)."
)
HEADER = ("curve", "points", "from", "to", "last", "best", "at")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """A loss in nats per token, in the order of steps.

    x: for "steps" and "tokens", if known, where each loss was measured. missing: how many losses were dropped because
    they were not finite.
    """

    name: str
    validation: bool
    x: Mapping[str, Sequence[float]]
    losses: Sequence[float]
    missing: int = 0

    @property
    def label(self) -> str:
        """The name, marked for a validation loss."""
        return f"{self.name}, validation" if self.validation else self.name


def is_curve(path: Path) -> bool:
    """Whether a path looks like a file with a curve."""
    return path.suffix in SUFFIXES and path.is_file()


def read_curves(paths: Sequence[Path], *, step: str = "", loss: str = "") -> list[Curve]:
    """Read the training and validation curves of run folders and files.

    step, loss: the columns of the files, if they do not have the usual names. Raises `TinyslmError` for paths without a
    curve.
    """
    if len(paths) > len(PALETTE):
        raise TinyslmError(f"{len(paths)} curves are too many to show.", f"Give at most {len(PALETTE)} runs and files.")
    names = [path.name for path in paths]
    rows = [None if path.is_dir() or path.name == METRICS else _rows(path) for path in paths]
    columns = {column for some in rows for row in some or () for column in row}
    for column in filter(None, (step, loss)):
        if column not in columns:
            raise TinyslmError(f'There is no column "{column}".', did_you_mean(column, sorted(columns)))
    found = []
    for path, name, some in zip(paths, names, rows, strict=True):
        shown = name if names.count(name) == 1 else str(path)
        if some is None:
            found += _of_run(path / METRICS if path.is_dir() else path, shown)
        else:
            found += _of_file(path, shown, some, (step, loss))
    return found


def draw(curves: Sequence[Curve]) -> list[Chart]:
    """Plot the training losses in one chart and the validation losses in another, over their common axis.

    Raises `TinyslmError` if some curves have only steps and others only tokens.
    """
    axis, charts = common_axis(curves), []
    colours = dict(zip(dict.fromkeys(one.name for one in curves), PALETTE, strict=False))
    for validation, title in ((False, "Training loss (nats per token)"), (True, "Validation loss (nats per token)")):
        series = [Series(one.name, one.x[axis], one.losses) for one in curves if one.validation == validation]
        if series:
            own = [colours[one.name] for one in series]
            charts.append(line_chart(series, title=title, x_title=axis, legend="below", colours=own))
    return charts


def common_axis(curves: Sequence[Curve]) -> str:
    """Choose "tokens" if all curves have them, because batch sizes may differ; otherwise "steps"."""
    for axis in ("tokens", "steps"):
        if all(axis in one.x for one in curves):
            return axis
    without = next(one for one in curves if "steps" not in one.x)
    raise TinyslmError(f"{without.name} has only tokens, but other curves have only steps.", "Show it separately.")


def write_page(curves: Sequence[Curve], out: Path) -> None:
    """Write a page with the charts and the table. Raises `TinyslmError` if it cannot be written."""
    charts = Figures([(chart.svg(), chart.description) for chart in draw(curves)])
    blocks: list[Block] = [charts, Table(table_rows(curves), HEADER), Paragraph(CAUTION)]
    names = dict.fromkeys(one.name for one in curves)
    write_atomic(out, page("Loss curves", " · ".join(names), [Section("Loss", blocks)]))


def table_rows(curves: Sequence[Curve]) -> list[tuple[str, ...]]:
    """A row for each curve, with the columns of `HEADER`."""
    axis, rows = common_axis(curves), []
    for one in curves:
        x = one.x[axis]
        best = min(range(len(x)), key=lambda index: one.losses[index])
        places = (f"{x[index]:,.0f}" for index in (0, -1))
        points = f"{len(x):,}" + (f" and {one.missing:,} NaN" if one.missing else "")
        rows.append((one.label, points, *places, f"{one.losses[-1]:.4f}", f"{one.losses[best]:.4f}", f"{x[best]:,.0f}"))
    return rows


def _of_run(log: Path, name: str) -> list[Curve]:
    events = read_metrics(log)
    per_step = next((row.get("tokens_per_step") for row in events if row["event"] == "start"), None)
    found = []
    for event, validation in (("step", False), ("validation", True)):
        rows = [row for row in events if row["event"] == event]
        points = [(row["step"], per_step and row["step"] * per_step, row.get("loss")) for row in rows if "step" in row]
        found += _curve(name, validation, points)
    if not found:
        raise TinyslmError(f"{log} has no losses yet.", "Try again after the run's first steps.")
    return found


def _of_file(path: Path, name: str, rows: Sequence[Row], asked: tuple[str, str]) -> list[Curve]:
    columns = list(dict.fromkeys(chain.from_iterable(rows)))
    step, loss = (column if column in columns else "" for column in asked)
    steps = step or _named(columns, STEPS, rows)
    tokens = "" if step else _named(columns, TOKENS, rows)
    usual = ((TRAINING, False), (VALIDATION, True))
    losses = [(loss, False)] if loss else [(_named(columns, names, rows), validation) for names, validation in usual]
    if not (steps or tokens) or not any(column for column, _ in losses):
        missing = "loss" if steps or tokens else "step"
        raise TinyslmError(
            f"{path} has no column that looks like a {missing}. Its columns: {', '.join(columns) or 'none'}.",
            "Name them: --step COLUMN --loss COLUMN",
        )
    found = []
    for column, validation in losses:
        points = [(row.get(steps), row.get(tokens), row[column]) for row in rows if row.get(column) not in (None, "")]
        found += _curve(name, validation, points if column else [])
    if not found:
        raise TinyslmError(f"{path} has no row with both a step and a loss.", "Give the log of a run that has started.")
    return found


def _curve(name: str, validation: bool, points: Iterable[tuple[Any, Any, Any]]) -> list[Curve]:
    """A curve through points (step, tokens, loss), or none. Of several losses at one step, the last one counts."""
    by_place: dict[tuple[float | None, float | None], float] = {}
    missing = 0
    for step, tokens, loss in points:
        place, value = (_number(step), _number(tokens)), _number(loss)
        if place == (None, None):
            continue
        missing += value is None
        by_place.pop(place, None)
        if value is not None:
            by_place[place] = value
    if not by_place:
        return []
    order = sorted(by_place, key=lambda place: [one or 0.0 for one in place])
    x = {
        axis: [place[index] or 0.0 for place in order]
        for index, axis in enumerate(("steps", "tokens"))
        if all(place[index] is not None for place in order)
    }
    return [Curve(name, validation, x, [by_place[place] for place in order], missing)] if x else []


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file. Raises `TinyslmError` if it cannot be read."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise TinyslmError(f"{path} is larger than {size(LARGEST_FILE)}.", "Give a file with fewer rows.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TinyslmError(f"Could not read {path}: {error.strerror}.", "Give a run folder or a file.") from None
    except UnicodeDecodeError:
        raise TinyslmError(
            f"{path} is not a text file.", f"Give a file of one of these types: {', '.join(SUFFIXES)}"
        ) from None
    if path.suffix in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix == ".tsv" else ","
        try:
            return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="", restval=""))
        except csv.Error as error:
            raise TinyslmError(f"{path} is not a table: {error}.", "Correct the file.") from None
    if path.suffix in (".json", ".jsonl"):
        return _json_rows(path, text)
    return [_printed(line) for line in text.splitlines()]


def _json_rows(path: Path, text: str) -> list[dict[str, Any]]:
    """Rows of JSON lines, of an array, or of transformers' `log_history`; accepts NaN as Python writes it."""
    try:
        if path.suffix == ".jsonl":
            lines = text.splitlines(keepends=True)
            unfinished = bool(lines) and not lines[-1].endswith("\n")  # the run may still be writing it
            whole: Any = [json.loads(line) for line in (lines[:-1] if unfinished else lines) if line.strip()]
        else:
            whole = json.loads(text)
        values = whole.get("log_history") if isinstance(whole, dict) else whole
    except (ValueError, RecursionError) as error:
        raise TinyslmError(f"{path} is not valid JSON: {error}.", "Correct the file.") from None
    if not isinstance(values, list):
        raise TinyslmError(f'{path} holds neither rows nor a "log_history".', "Give trainer_state.json, or JSON lines.")
    return [value for value in values if isinstance(value, dict)]


def _printed(line: str) -> dict[str, str]:
    """Parse a line such as `iter 10: loss 3.1, time 5 ms` or `step 250: train loss 2.5, val loss 2.6`."""
    step = re.search(r"\b(?:iter|step)\w*[ :=]+(\d+)", line)
    losses = re.findall(r"\b((?:train|val|eval)?\w*[ _]?loss)[ :=]+([-+.\dinfa]+)", line)
    return {"step": step[1], **{_plain(name): value for name, value in losses}} if step and losses else {}


def _named(columns: Sequence[str], usual: Sequence[str], rows: Sequence[Row]) -> str:
    """The first column with one of these names that has values; "" if there is none."""
    by_name = {_plain(column): column for column in reversed(columns)}
    filled = (by_name[name] for name in usual if name in by_name)
    return next((column for column in filled if any(row.get(column) not in (None, "") for row in rows)), "")


def _plain(column: str) -> str:
    """Normalize a column name: lower case, underscores, and without the run name that Weights & Biases prepends."""
    return re.sub(r"[\W_]+", "_", column.rpartition(" - ")[2].strip().lower())


def _number(value: Any) -> float | None:
    """Convert a value, also a string, to a finite number; `None` if it is not one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
