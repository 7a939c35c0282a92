"""The ASGI app: its routes and its middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from tinyslm.inference.engine import Engine
from tinyslm.serving import chat, completions, embeddings, errors, gradio_app, page, responses, status
from tinyslm.serving.api_keys import ApiKeys
from tinyslm.serving.middleware import AccessLogMiddleware, AccessMiddleware
from tinyslm.serving.models import Models
from tinyslm.serving.service import Service
from tinyslm.serving.settings import ServerSettings

UNLOAD_SECONDS = 5.0
"""How often idle models are unloaded."""


def create_app(
    settings: ServerSettings, models: Models, keys: ApiKeys | None = None, pages: Sequence[page.Page] = ()
) -> FastAPI:
    """The server as an ASGI app; its lifespan begins with loading the first model, and ends with closing all.

    pages: in addition to the chat page.
    """
    service = Service(settings, models, keys or ApiKeys({}))
    app = FastAPI(
        title="tinyslm",
        version=version("tinyslm"),
        docs_url=None,  # these pages load scripts from other servers
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=_lifespan,
        responses={code: {"model": errors.ErrorBody} for code in (400, 401, 403, 404, 413, 415, 429, 500, 503)},
    )
    app.state.service = service
    for router in (chat.router, completions.router, responses.router, embeddings.router, status.router):
        app.include_router(router)
    app.include_router(page.make_router(pages))
    errors.add_error_handlers(app)
    if settings.gradio:
        gradio_app.mount(app, service)
    # The middleware that is added last is the outermost.
    app.add_middleware(AccessMiddleware, service=service, public=[*page.PUBLIC, *(one.path for one in pages)])
    app.add_middleware(AccessLogMiddleware, service=service)
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
    unloading = asyncio.create_task(_unload_idle(service.models))
    try:
        yield
    finally:
        unloading.cancel()
        with suppress(asyncio.CancelledError):
            await unloading
        await service.close()


async def _unload_idle(models: Models) -> None:
    while True:
        await asyncio.sleep(UNLOAD_SECONDS)
        await models.unload_idle()
