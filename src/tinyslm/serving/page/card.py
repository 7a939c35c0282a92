"""`/card/NAME`: what is known of a model, for the page's sheet about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.export.facts import Row, licence_of, origin_rows, score_rows, shape_rows, training_record, training_rows
from tinyslm.model.adapted import AdaptedModel
from tinyslm.model.folder import find_model
from tinyslm.serving.encoding import JsonResponse
from tinyslm.serving.models import Source
from tinyslm.serving.service import service_of

router = APIRouter()


@router.get("/card/{name:path}")
async def card(name: str, http: HttpRequest) -> Response:
    """What a model's files say of it: sections of rows, each with a name and a value."""
    models = service_of(http).models
    source, conversations = models.source(name), models.holds_conversations(name)
    found = await asyncio.to_thread(sections, source, conversations)
    return JsonResponse({"model": name, "sections": found})


def sections(source: Source, conversations: bool | None) -> list[dict[str, Any]]:
    """What a model's files say of it: sections of rows, as the page draws them."""
    filled = _sections(source, conversations)
    return [{"title": title, "rows": rows} for title, rows in filled if rows]


def _sections(source: Source, conversations: bool | None) -> list[tuple[str, Sequence[Row]]]:
    path = source.base if isinstance(source, AdaptedModel) else source
    if not path.is_dir():
        return [("Model", [("file", path.name)])]
    folder = find_model(path)
    training = training_record(folder)
    shape = shape_rows(folder)
    if isinstance(source, AdaptedModel):
        shape.append(("adapter", source.adapter.name))
    if conversations is not None:
        shape.append(("conversations", "trained on them" if conversations else "never trained on any"))
    return [
        ("Model", shape),
        ("Training", training_rows(training)),
        ("Scores on held-out data", score_rows(training)),
        ("Origin and licence", [*origin_rows(training), ("licence", licence_of(folder) or "not stated")]),
    ]
