"""`/card/NAME`: what is known of a model, for the page's sheet about it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.export.facts import Section, sections_of
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
    sections = await asyncio.to_thread(_sections, source, conversations)
    return JsonResponse({"model": name, "sections": sections})


def _sections(source: Source, conversations: bool | None) -> list[Section]:
    path = source.base if isinstance(source, AdaptedModel) else source
    if not path.is_dir():
        return [{"title": "Model", "rows": [("file", path.name)]}]
    adapter = [("adapter", source.adapter.name)] if isinstance(source, AdaptedModel) else []
    return sections_of(find_model(path), conversations, adapter)
