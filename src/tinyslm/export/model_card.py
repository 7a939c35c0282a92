"""The model card: the `README.md` that says what a model is, what it was made of, and how well it does what.

Every line comes from a file: the model folder, its run, and scores that `tinyslm evaluate` wrote. What no file says is
named as unknown where readers look for it (the licence, the data, the scores), and left out elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tinyslm.core.json_files import read_json
from tinyslm.core.printable import one_line
from tinyslm.export.facts import (
    Row,
    data_rows,
    front_matter,
    graded_by_training,
    is_number,
    licence_of,
    method_rows,
    origin_rows,
    quantization_report,
    run_of,
    score_rows,
    shape_rows,
    training_record,
    training_rows,
)
from tinyslm.export.licences import check_licence, licence_fields
from tinyslm.model.folder import find_model, holds_conversations, name_of, read_model_config

README = "README.md"


@dataclass(frozen=True)
class ScoresFile:
    """The content of a file that `tinyslm evaluate --out` wrote."""

    model: str
    scores: list[dict[str, Any]]


@dataclass(frozen=True)
class ModelCard:
    """metadata: the front matter. sections: titles, and below each a table or paragraphs."""

    title: str
    metadata: Mapping[str, Any]
    sections: Sequence[tuple[str, Sequence[Row | str]]]

    def render(self, metadata: Mapping[str, Any] | None = None) -> str:
        """The card as Markdown, with its own front matter or another one."""
        fields = yaml.safe_dump(
            dict(self.metadata if metadata is None else metadata), sort_keys=False, allow_unicode=True, width=1_000
        )
        parts = [f"---\n{fields}---\n", f"# {escaped(self.title)}\n"]
        parts += [f"## {title}\n\n{_content(rows)}" for title, rows in self.sections if rows]
        return "\n".join(parts)


def model_card(
    folder: Path, *, title: str = "", licence: str = "", scores: Sequence[Path] = (), limits: Sequence[str] = ()
) -> ModelCard:
    """The card of a model folder or a run folder.

    licence: an identifier of the hub, of a model whose files state none. scores: files of `tinyslm evaluate --out`,
    besides `scores.json` in the run folder. limits: further ones, of the form in which the model is published. Raises
    `TinyslmError` for a folder that is not a model and for files that cannot be read.
    """
    folder = find_model(folder)
    name, run, training = name_of(folder), run_of(folder), training_record(folder)
    found = _scores(run, scores)
    known = check_licence(licence) if licence else licence_of(folder)
    sections: list[tuple[str, Sequence[Row | str]]] = [
        ("Model", [*shape_rows(folder), ("chat template", _template(folder))]),
        ("Training", [*training_rows(training), *(method_rows(run) if run else ())]),
        ("Data", (data_rows(run) if run else []) or ["What it was trained on is not recorded with this model."]),
        ("Scores on held-out data", [*score_rows(training), *_quantized_rows(folder)]),
        ("Scores on tasks", [_task_row(score) for score in found] or ["No scores on tasks are recorded."]),
        ("Limits", [f"- {limit}" for limit in (*_limits(folder, found), *limits)]),
        ("Origin and licence", [*origin_rows(training), ("licence", known or "not stated")]),
    ]
    return ModelCard(title or name, _metadata(folder, name, known, found), sections)


def _scores(run: Path | None, given: Sequence[Path]) -> list[dict[str, Any]]:
    files = [*given, *([run / "scores.json"] if run and (run / "scores.json").is_file() else [])]
    remedy = "Give a file that `tinyslm evaluate --tasks ... --out FILE` wrote."
    found = [score for file in files for score in read_json(file, ScoresFile, remedy=remedy).scores]
    return [score for score in found if {"task", "metric", "value", "low", "high", "items"} <= score.keys()]


def _metadata(folder: Path, name: str, licence: str, scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The front matter, in the fields of the hub's model cards."""
    stated, training = front_matter(folder), training_record(folder)
    fields: dict[str, Any] = licence_fields(licence)
    if "language" in stated:
        fields["language"] = stated["language"]
    match training:
        case {"pulled_from": {"repository": str(base)}}:
            fields["base_model"] = base
        case {"base": {"pulled_from": {"repository": str(base)}}}:
            fields |= {"base_model": base, "base_model_relation": "finetune"}
    if "base_model" in fields and quantization_report(folder):
        fields["base_model_relation"] = "quantized"
    fields |= {"library_name": "transformers", "pipeline_tag": "text-generation"}
    fields["tags"] = ["tinyslm", *(["conversational"] if holds_conversations(folder) else [])]
    if scores:
        fields["model-index"] = [{"name": name, "results": [_result(score) for score in scores]}]
    return fields


def _result(score: Mapping[str, Any]) -> dict[str, Any]:
    task = str(score["task"])
    label = f"{score['metric']}, 95 % interval {score['low']:.4f} to {score['high']:.4f}, {score['items']:,} items"
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": task, "type": task},
        "metrics": [{"type": str(score["metric"]), "value": round(float(score["value"]), 4), "name": label}],
    }


def _task_row(score: Mapping[str, Any]) -> Row:
    parts = [f"{score['metric']} {score['value']:.4f} (95 % interval {score['low']:.4f} to {score['high']:.4f})"]
    if is_number(score.get("chance")):
        parts.append(f"chance {score['chance']:.4f}")
    parts.append(f"{score['items']:,} items")
    match score.get("overlap"):
        case {"found": int(found), "checked": int(checked)}:
            parts.append(f"{found:,} of {checked:,} items occur in the training text")
    return str(score["task"]), ", ".join(parts)


def _quantized_rows(folder: Path) -> list[Row]:
    """Whose scores those of the training are, once a model is quantized; and its own, where they were measured."""
    match quantization_report(folder):
        case {"rows": [{"bits_per_byte": float(before)}, *_, {"bits_per_byte": float(after)}]}:
            return [("after quantization", f"{after:.4f} bits per byte of held-out text, before it {before:.4f}")]
        case {"rows": _}:
            return [("after quantization", "not measured; any scores above are of the model before it")]
    return []


def _template(folder: Path) -> str:
    return "yes" if holds_conversations(folder) else "none that it was trained with"


def _limits(folder: Path, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What follows from the files, and what no file can vouch for."""
    config = read_model_config(folder)
    limits = [f"It reads and writes at most {config.longest:,} tokens at a time."]
    if not holds_conversations(folder):
        limits.append("It was not trained on conversations: it continues a text, and does not answer.")
    if chance := [escaped(str(score["task"])) for score in scores if score.get("above_chance") is False]:
        limits.append(f"Not measurably better than guessing on: {', '.join(chance)}.")
    if not scores:
        taught = graded_by_training(training_record(folder))
        limits.append(
            f"How well it does {'anything that it was not taught' if taught else 'any task'} was not measured."
        )
    limits.append("Safety, bias and the truth of what it writes were not measured.")
    return limits


def escaped(text: str) -> str:
    """Text from files on one line of Markdown: nothing in it is markup."""
    line = one_line(text, 500)
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|#" else letter for letter in line)


def _content(lines: Sequence[Row | str]) -> str:
    """Rows as a table, or lines of Markdown."""
    made = [line if isinstance(line, str) else f"| {escaped(line[0])} | {escaped(line[1])} |" for line in lines]
    header = [] if isinstance(lines[0], str) else ["| | |", "| --- | --- |"]
    return "".join(f"{line}\n" for line in [*header, *made])
