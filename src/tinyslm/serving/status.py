"""How the server is: its models, its health, its figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.serving.errors import unavailable
from tinyslm.serving.service import Service, service_of
from tinyslm.serving.wire import Json

router = APIRouter()

_DRAWN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""Settings whose defaults are listed with a model."""


@router.get("/v1/models")
async def list_models(http: HttpRequest) -> Response:
    """All models, loaded or not."""
    service = service_of(http)
    return Json({"object": "list", "data": [_told(service, name) for name in service.models.names]})


@router.get("/v1/models/{name:path}")
async def one_model(name: str, http: HttpRequest) -> Response:
    """One model."""
    return Json(_told(service_of(http), name))


@router.get("/health")
async def health() -> Response:
    """Whether the server lives."""
    return Json({"status": "ok"})


@router.get("/ready")
async def ready(http: HttpRequest) -> Response:
    """Whether requests are taken."""
    service = service_of(http)
    if service.traffic.closing or not service.models.loaded():
        raise unavailable("The server takes no requests now.", "not_ready")
    return Json({"status": "ready"})


@router.get("/metrics")
async def metrics(http: HttpRequest) -> Response:
    """Figures for Prometheus."""
    return Response(service_of(http).metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _told(service: Service, name: str) -> dict[str, Any]:
    """One model in OpenAI's format; the fields after "owned_by" are not OpenAI's. Raises `UnknownModel`."""
    created = service.models.created(name)
    told: dict[str, Any] = {"id": name, "object": "model", "created": created, "owned_by": "tinyslm"}
    engine = service.models.loaded().get(name)
    if engine is not None:
        told |= {"loaded": True, "context": engine.context, "engine": engine.name}
        told["sampling"] = engine.default_sampling.model_dump(include=set(_DRAWN))
    else:
        told |= {"loaded": False}
    return told
