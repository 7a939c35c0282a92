"""The app: its routes, and what stands before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from tinyslm.inference.engine import Engine
from tinyslm.serving import chat, completions, errors, page, responses, status, texts
from tinyslm.serving.kept import Kept
from tinyslm.serving.keys import Keys
from tinyslm.serving.limits import Door
from tinyslm.serving.models import Models
from tinyslm.serving.service import Service
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.watching import Watching

SECONDS_BETWEEN_ROUNDS = 5.0
"""How often models that nobody uses are looked for."""

ROUTES = (chat.router, completions.router, responses.router, texts.router, status.router)


def create_app(settings: ServerSettings, models: Models, keys: Keys | None = None) -> FastAPI:
    """The server as an ASGI app; its lifespan begins with loading the first model, and ends with closing all."""
    service = Service(settings, models)
    app = FastAPI(
        title="tinyslm",
        version=version("tinyslm"),
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # nothing is told to anyone
        lifespan=_lifespan,
        responses={code: {"model": errors.ErrorBody} for code in (400, 401, 403, 404, 413, 415, 429, 500, 503)},
    )
    app.state.service = service
    app.state.kept = Kept()
    for router in (*ROUTES, page.router(models)):
        app.include_router(router)
    errors.install(app)
    # Of these, what is added last sees a request first.
    app.add_middleware(Door, settings=settings, keys=keys or Keys({}), traffic=service.traffic, public=page.PUBLIC)
    app.add_middleware(Watching, service=service)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def engine_app(engine: Engine) -> FastAPI:
    """The app around one engine, for programs in this process: without limits; its model is called "model"."""
    much = 2**31
    settings = ServerSettings(max_body=much, max_choices=much, max_prompts=much, max_requests=much, max_seconds=much)
    return create_app(settings, Models({"model": Path()}, lambda _path: engine))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    await service.models.load_first()
    rounds = asyncio.create_task(_rounds(service))
    try:
        yield
    finally:
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds
        await service.close()


async def _rounds(service: Service) -> None:
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_ROUNDS)
        await service.models.unload_idle()
