"""`/card/NAME`: what is known of a model, for the page's sheet about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.core.quantities import count, duration, size
from tinyslm.model.adapted import AdaptedModel
from tinyslm.model.compressed_tensors import METHOD
from tinyslm.model.folder import find_model, quantized, read_card, read_model_config
from tinyslm.model.weights import weight_files
from tinyslm.serving.encoding import JsonResponse
from tinyslm.serving.models import Source
from tinyslm.serving.service import service_of

Row = tuple[str, str]

LICENCE = re.compile(r"^license:\s*[\"']?([^\"'\n]{1,100})", re.MULTILINE)
LARGEST_README = 2**20

router = APIRouter()


@router.get("/card/{name:path}")
async def card(name: str, http: HttpRequest) -> Response:
    """What a model's files say of it: sections of rows, each with a name and a value."""
    models = service_of(http).models
    source, conversations = models.source(name), models.holds_conversations(name)
    sections = await asyncio.to_thread(_sections, source, conversations)
    filled = [{"title": title, "rows": rows} for title, rows in sections if rows]
    return JsonResponse({"model": name, "sections": filled})


def _sections(source: Source, conversations: bool | None) -> list[tuple[str, Sequence[Row]]]:
    path = source.base if isinstance(source, AdaptedModel) else source
    if not path.is_dir():
        return [("Model", [("file", path.name)])]
    folder = find_model(path)
    training = read_card(folder).get("training", {})
    shape = _shape(folder)
    if isinstance(source, AdaptedModel):
        shape.append(("adapter", source.adapter.name))
    if conversations is not None:
        shape.append(("conversations", "trained on them" if conversations else "never trained on any"))
    return [
        ("Model", shape),
        ("Training", _training(training)),
        ("Scores on held-out data", _scores(training)),
        ("Origin and licence", [*_origin(training), ("licence", _licence(folder, training))]),
    ]


def _shape(folder: Path) -> list[Row]:
    config = read_model_config(folder)
    rows = [
        ("family", config.family),
        ("parameters", count(config.parameters)),
        ("layers", f"{config.depth} of width {config.dim}"),
        ("heads per layer", f"{config.heads}"),
        ("context", f"{config.context:,} tokens"),
        ("vocabulary", f"{config.vocab_size:,} tokens"),
        ("weights", size(sum(file.stat().st_size for file in weight_files(folder)))),
    ]
    return [*rows, ("quantized", METHOD)] if quantized(folder) else rows


def _training(training: Mapping[str, Any]) -> list[Row]:
    shown = {
        "training_tokens": ("tokens", count),
        "training_seconds": ("time", duration),
        "step": ("updates", lambda steps: f"{steps:,}"),
    }
    return [(name, show(training[key])) for key, (name, show) in shown.items() if _is_number(training.get(key))]


def _scores(training: Mapping[str, Any]) -> list[Row]:
    """The scores; the interval, if there is one, is that of the first."""
    shown = {
        "bits_per_byte": "bits per byte",
        "reward": "reward",
        "loss": "loss (nats per token)",
        "accuracy": "chosen answer preferred",
    }
    rows = [(name, f"{training[key]:.4f}") for key, name in shown.items() if _is_number(training.get(key))]
    if rows and all(_is_number(training.get(bound)) for bound in ("low", "high")):
        rows.insert(1, ("95 % interval", f"{training['low']:.4f} to {training['high']:.4f}"))
    match training.get("verdict"):
        case {"words": str(words)}:
            rows.append(("verdict", words))
    return rows


def _origin(training: Mapping[str, Any]) -> list[Row]:
    rows = []
    match training.get("pulled_from"):
        case {"repository": str(repository), "revision": str(revision)}:
            rows.append(("pulled from", f"{repository} at {revision[:12]}"))
    match training.get("imported_from"):
        case {"file": str(file)}:
            rows.append(("imported from", file))
    return rows


def _licence(folder: Path, training: Mapping[str, Any]) -> str:
    """What the model's source, its README or the first line of its licence file says."""
    for source in ("pulled_from", "imported_from"):
        match training.get(source):
            case {"licence": str(licence)}:
                return licence
    readme = folder / "README.md"
    if readme.is_file() and readme.stat().st_size <= LARGEST_README:
        found = LICENCE.search(readme.read_text(encoding="utf-8", errors="replace").partition("\n---")[0])
        if found:
            return found[1].strip()
    for file in sorted(folder.glob("LICENSE*")):
        with file.open(encoding="utf-8", errors="replace") as lines:
            return next((line.strip()[:100] for line in lines if line.strip()), file.name)
    return "not stated"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
