"""The state of the server: its models, its health, its metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.serving.encoding import JsonResponse
from tinyslm.serving.errors import unavailable
from tinyslm.serving.models import Models
from tinyslm.serving.prompting import SAMPLING
from tinyslm.serving.service import service_of

router = APIRouter()


@router.get("/v1/models")
async def list_models(http: HttpRequest) -> Response:
    """All models, loaded or not."""
    models = service_of(http).models
    return JsonResponse({"object": "list", "data": [_described(models, name) for name in models.names]})


@router.get("/v1/models/{name:path}")
async def get_model(name: str, http: HttpRequest) -> Response:
    """One model."""
    return JsonResponse(_described(service_of(http).models, name))


@router.get("/health")
async def health() -> Response:
    """Whether the server is running."""
    return JsonResponse({"status": "ok"})


@router.get("/ready")
async def ready(http: HttpRequest) -> Response:
    """Whether requests are accepted."""
    service = service_of(http)
    if service.admission.closing or not service.models.loaded():
        raise unavailable("The server does not accept requests now.", "not_ready")
    return JsonResponse({"status": "ready"})


@router.get("/metrics")
async def metrics(http: HttpRequest) -> Response:
    """Metrics in the format of Prometheus."""
    return Response(service_of(http).metrics.page(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _described(models: Models, name: str) -> dict[str, Any]:
    """A model in OpenAI's format, with extensions after "owned_by". Raises `UnknownModel`."""
    created, engine = models.created(name), models.loaded().get(name)
    model: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "tinyslm",
        "loaded": engine is not None,
    }
    if base := models.base(name):
        model["parent"] = base
    conversations = models.holds_conversations(name)
    if conversations is not None:
        model["conversations"] = conversations
    if engine is None:
        return model
    sampling = engine.default_sampling.model_dump(include={*SAMPLING})
    return {**model, "context": engine.context, "engine": engine.name, "sampling": sampling}
