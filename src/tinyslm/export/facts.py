"""What is known of a model: rows of a name and a value, from what was measured and recorded, and nothing else.

The model card and the page of the server show them. What no file says has no row.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import yaml

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST
from tinyslm.core.json_files import read_json
from tinyslm.core.quantities import count, counted, duration, size
from tinyslm.data.used import data_of
from tinyslm.model.compressed_tensors import METHOD
from tinyslm.model.config import ModelConfig
from tinyslm.model.folder import quantized, read_card, read_model_config
from tinyslm.model.weights import weight_files

Row = tuple[str, str]


class Section(TypedDict):
    """Rows under a title, as pages draw them."""

    title: str
    rows: Sequence[Row]


LARGEST_README = 2**20
SCORE = "score"
"""The unit of a verdict's gain where answers were graded."""
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?\n)---\s*$", re.DOTALL | re.MULTILINE)
_METHODS = {
    "pretrain": "next-token prediction on text",
    "sft": "supervised fine-tuning on conversations",
    "dpo": "preferences between two answers (DPO)",
    "grpo": "rewards of a grader (GRPO)",
    "distill_text": "distillation from a teacher, on text",
    "distill_answers": "distillation from a teacher, on conversations",
}


def sections_of(folder: Path, conversations: bool | None, more: Sequence[Row] = ()) -> list[Section]:
    """What a model folder's files say of it, without the sections that would be empty.

    conversations: whether it was trained on any, if that is known. more: rows about the model.
    """
    training = training_record(folder)
    shape = [*shape_rows(folder), *more]
    if conversations is not None:
        shape.append(("conversations", "trained on them" if conversations else "never trained on any"))
    origin = [*origin_rows(training), ("licence", licence_of(folder) or "not stated")]
    found: list[Section] = [
        {"title": "Model", "rows": shape},
        {"title": "Training", "rows": training_rows(training)},
        {"title": "Scores on held-out data", "rows": score_rows(training)},
        {"title": "Origin and licence", "rows": origin},
    ]
    return [section for section in found if section["rows"]]


def training_record(folder: Path) -> dict[str, Any]:
    """What a model folder records of its training; empty if nothing."""
    record: dict[str, Any] = read_card(folder).get("training", {})
    return record


def shape_rows(folder: Path) -> list[Row]:
    """Architecture and size of a model folder."""
    config = as_counted(folder, read_model_config(folder))
    rows = [
        ("family", config.family),
        ("parameters", count(config.parameters)),
        ("layers", f"{config.depth} of width {config.dim}"),
        ("heads per layer", f"{config.heads}"),
        ("context", f"{config.context:,} tokens"),
        ("vocabulary", f"{config.vocab_size:,} tokens"),
        ("weights", size(sum(file.stat().st_size for file in weight_files(folder)))),
    ]
    return [*rows, ("quantized", quantization(folder))] if quantized(folder) else rows


def as_counted(folder: Path, config: ModelConfig) -> ModelConfig:
    """The shape by which the parameters of a model folder are counted.

    A model that was quantized here has an output projection of its own, as the token embedding is not packed. Where
    both were one matrix before, it counts once.
    """
    match quantization_report(folder):
        case {"rows": [{"bytes": int(original), "bits_per_weight": float(bits)}, *_]} if bits > 0:
            tied = config.model_copy(update={"tied": True})
            if round(8 * original / bits) == tied.parameters:
                return tied
    return config


def quantization(folder: Path) -> str:
    """How the weights are quantized, with the bits per weight where they were counted."""
    match quantization_report(folder):
        case {"scheme": str(scheme), "rows": [*_, {"bits_per_weight": float(bits)}]}:
            return f"{scheme}, {bits:.2f} bits per weight over all tensors"
    return METHOD


def quantization_report(folder: Path) -> dict[str, Any]:
    """The record that `tinyslm quantize` wrote with the weights; empty if there is none."""
    return _optional(folder / "quantization.json")


def training_rows(training: Mapping[str, Any]) -> list[Row]:
    """How long a model was trained."""
    shown = {
        "training_tokens": ("tokens", count),
        "training_seconds": ("time", duration),
        "step": ("updates", lambda steps: f"{steps:,}"),
    }
    return [(name, show(training[key])) for key, (name, show) in shown.items() if is_number(training.get(key))]


def score_rows(training: Mapping[str, Any]) -> list[Row]:
    """The scores on held-out data; the interval, if there is one, is that of the first."""
    shown = {
        "bits_per_byte": "bits per byte",
        "reward": "reward",
        "loss": "loss (nats per token)",
        "accuracy": "chosen answer preferred",
    }
    rows = [(name, f"{training[key]:.4f}") for key, name in shown.items() if is_number(training.get(key))]
    if rows and all(is_number(training.get(bound)) for bound in ("low", "high")):
        rows.insert(1, ("95 % interval", f"{training['low']:.4f} to {training['high']:.4f}"))
    return [*rows, *change_rows(training)]


def change_rows(training: Mapping[str, Any]) -> list[Row]:
    """What a training changed, by its verdict: the same held-out examples and general text, before and after it."""
    rows, verdict = [], training.get("verdict")
    match verdict:
        case {"gain": {"before": float(before), "after": float(after), "low": float(low), "high": float(high), **gain}}:
            graded, unit = gain.get("unit") == SCORE, gain.get("unit")
            then = f"before training {before:.4f}" if graded else f"{before:.4f} {unit}"
            change = f"{then}; change {low:+.4f} to {high:+.4f}, {gain.get('examples', 0):,} held-out examples"
            rows.append(("score of its answers", f"{after:.4f}, {change}") if graded else ("before training", change))
    match verdict:
        case {"general": {"change": float(share), "low": float(low), "high": float(high), "effect": str(effect)}}:
            more = f"{abs(share):.1%} {'fewer' if share < 0 else 'more'} bits per byte than before training"
            clear = "" if effect in ("better", "worse") else "; within the noise"
            rows.append(("general text", f"{more} ({low:+.1%} to {high:+.1%}){clear}".replace("%", " %")))
    return rows


def graded_by_training(training: Mapping[str, Any]) -> bool:
    """Whether a training compared graded answers to held-out examples before and after it."""
    match training.get("verdict"):
        case {"gain": {"unit": unit}}:
            return bool(unit == SCORE)
    return False


def origin_rows(training: Mapping[str, Any]) -> list[Row]:
    """Where the weights come from, if from elsewhere."""
    rows = []
    match training.get("pulled_from"):
        case {"repository": str(repository), "revision": str(revision)}:
            rows.append(("pulled from", f"{repository} at {revision[:12]}"))
    match training.get("imported_from"):
        case {"file": str(file)}:
            rows.append(("imported from", file))
    match training.get("base"):
        case {"name": str(name), **origin}:
            found = ", ".join(f"{how} {where}" for how, where in origin_rows({str(key): origin[key] for key in origin}))
            rows.append(("trained from", f"{name} ({found})" if found else name))
    return rows


def licence_of(folder: Path) -> str:
    """What the model's source, its README or the first line of its licence file says; "" if nothing does."""
    training = training_record(folder)
    for source in (training, training.get("base")):
        match source:
            case {"pulled_from": {"licence": str(licence)}} | {"imported_from": {"licence": str(licence)}}:
                return licence
    stated = front_matter(folder).get("license")
    if isinstance(stated, str):
        return stated
    for file in sorted(folder.glob("LICENSE*")):
        with file.open(encoding="utf-8", errors="replace") as lines:
            return next((line.strip()[:100] for line in lines if line.strip()), file.name)
    return ""


def front_matter(folder: Path) -> dict[str, Any]:
    """The YAML block at the top of a folder's `README.md`; empty if there is none that can be read."""
    readme = folder / "README.md"
    if not readme.is_file() or readme.stat().st_size > LARGEST_README:
        return {}
    found = _FRONT_MATTER.match(readme.read_text(encoding="utf-8", errors="replace"))
    try:
        content = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def run_of(folder: Path) -> Path | None:
    """The run folder whose model this is; `None` if it does not lie in one."""
    run = folder.resolve().parent
    return run if folder.resolve().name == "model" and (run / "result.json").is_file() else None


def method_rows(run: Path) -> list[Row]:
    """How a run trained: the kind of training, the data types, the seed, the program."""
    settings, versions = _optional(run / "config.json").get("train", {}), _optional(run / "versions.json")
    rows = []
    if (stage := settings.get("stage")) is not None:
        rows.append(("method", _METHODS.get(stage, str(stage))))
    if adapters := _optional(run / "config.json").get("lora", {}).get("rank"):
        rows.append(("adapters", f"rank {adapters}, merged into the weights"))
    if is_number(settings.get("seed")):
        rows.append(("seed", f"{settings['seed']}"))
    if {"device", "dtype", "tinyslm", "torch"} <= versions.keys():
        rows.append(("computed", f"on {versions['device']} in {versions['dtype']}"))
        rows.append(("programs", f"tinyslm {versions['tinyslm']}, torch {versions['torch']}"))
    return rows


def data_rows(run: Path) -> list[Row]:
    """What a run learned from: sources by their names alone, as their paths are private, and counts."""
    try:
        data = data_of(run)
    except TinyslmError:
        data = None
    if data is None:
        return []
    manifest = _optional(data / MANIFEST)
    rows = []
    for source in manifest.get("sources") or ():
        match source:
            case {"path": str(source_path), "kept_documents": int(documents), "kept_bytes": int(kept)}:
                what = "held out" if source.get("for") == "valid" else "learned from"
                rows.append((Path(source_path).name, f"{counted(documents, 'document')}, {size(kept)} ({what})"))
    for split, name in (("train", "training"), ("valid", "held out")):
        match manifest.get("splits", {}).get(split):
            case {"documents": int(documents), "tokens": int(tokens)}:
                rows.append((name, f"{counted(documents, 'document')}, {tokens:,} tokens"))
            case {"examples": int(examples), "tokens": int(tokens)}:
                rows.append((name, f"{counted(examples, 'conversation')}, {tokens:,} tokens"))
    return rows


def is_number(value: object) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _optional(path: Path) -> dict[str, Any]:
    """A JSON file with an object; empty if it is missing or damaged: the model works without it."""
    try:
        return read_json(path) if path.is_file() else {}
    except TinyslmError:
        return {}
