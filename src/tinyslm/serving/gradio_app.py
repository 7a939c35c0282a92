"""A chat interface made with Gradio: in a server that also has the chat page, or alone, as in a Hugging Face Space.

It answers with the server's own engines, in this process, within the limits of the API. Models that were never trained
on conversations get an interface that continues a text. Nothing is loaded from other servers or reported to them: a
Content-Security-Policy forbids it, and only the routes of Gradio that its page needs exist. So uploads, files, proxies
and calls of functions by name are not possible.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.export.model_card import escaped
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.opening import open_engine
from tinyslm.inference.request import Request
from tinyslm.serving.api_keys import ApiKeys
from tinyslm.serving.chat import chat_request
from tinyslm.serving.completions import completion_request
from tinyslm.serving.errors import ApiError, api_error
from tinyslm.serving.models import Models, ServedModel
from tinyslm.serving.request_log import RequestLog, request_id
from tinyslm.serving.schemas.chat import ChatBody
from tinyslm.serving.schemas.texts import CompletionBody
from tinyslm.serving.service import Prepare, Service
from tinyslm.serving.settings import ServerSettings

if TYPE_CHECKING:
    import gradio

PATH = "/gradio"

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; base-uri 'self'; form-action 'none'; object-src 'none'"
)

ROUTES = re.compile(
    r"/?|/config/?|/theme\.css|/gradio_api/theme\.css|/favicon\.ico|/(static|assets)/[^?]*"
    r"|/gradio_api/(heartbeat/\w+|queue/join/?|queue/data|run/predict/?|reset/?|cancel|startup-events|app_id/?|info/?)"
)
"""What a page made with Gradio asks for; below its own path."""

UPDATE_SECONDS = 0.25
"""How long text gathers: Gradio's page falls behind with many updates per second."""


class Confined:
    """Middleware of a Gradio app: other routes than `ROUTES` do not exist, and answers have the `POLICY`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not ROUTES.fullmatch(path):
            await PlainTextResponse("This page does not exist.", 404)(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                if path.startswith("/assets/"):  # their names tell their contents
                    headers["Cache-Control"] = "max-age=31536000, immutable"
            await send(message)

        await self.app(scope, receive, send_with_policy)


def mount(app: FastAPI, service: Service) -> None:
    """Serve the interface at `PATH` of a server. Raises `TinyslmError` if Gradio is not installed."""
    gr = _gradio()
    gr.mount_gradio_app(app, make_blocks(service), PATH, **_shared())
    mounted = next(route for route in app.routes if isinstance(route, Mount) and route.path == PATH)
    gradio_server: Any = mounted.app
    service.at_stop.append(gradio_server.stop_event.set)  # ends the heartbeats of open pages


def launch(model: Path, name: str = "", title: str = "") -> None:
    """Serve the interface alone, as a Hugging Face Space does, until the process ends; a title is its heading.

    The address is Gradio's: 127.0.0.1, port 7860, unless `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` say otherwise.
    Raises `TinyslmError` if Gradio is not installed, or the model cannot be opened.
    """
    engine = open_engine(model)
    models = Models({name or model.resolve().name: model}, lambda _source: engine)
    service = Service(ServerSettings(), models, ApiKeys({}))
    make_blocks(service, title).launch(share=False, **_shared())


def make_blocks(service: Service, title: str = "") -> gradio.Blocks:
    """The interface to a server's models: those that hold conversations, and those that continue texts."""
    gr = _gradio()
    names = _names(service)
    kinds = {"Chat": _add_chat, "Write": _add_writing}
    tabs, tab = (gr.Tabs, gr.Tab) if all(names) else (nullcontext, nullcontext)
    with gr.Blocks(title=title or service.models.names[0], analytics_enabled=False, fill_height=True) as blocks:
        if title:
            gr.Markdown(f"# {escaped(title)}")
        with tabs():
            for number, (kind, add) in enumerate(kinds.items()):
                if names[number]:
                    with tab(kind):
                        choice = add(service, names[number])
                    again = partial(_model_choices, service, number)  # a reload may have changed them
                    blocks.load(again, None, choice, show_progress="hidden", api_visibility="private")
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks


def _add_chat(service: Service, names: Sequence[str]) -> gradio.Dropdown:
    gr = _gradio()
    model = _model_choice(names)
    system = gr.Textbox(label="Instructions (system message)", lines=2, max_length=20_000, render=False)

    async def answer(
        message: str, history: list[dict[str, Any]], name: str, instructions: str, heat: str | None, most: str | None
    ) -> AsyncIterator[str]:
        said = [(turn["role"], _text_of(turn["content"])) for turn in history]
        said = [*([("system", instructions)] if instructions else []), *said, ("user", message)]
        messages = [{"role": role, "content": text} for role, text in said]
        async for text in _streamed(service, ChatBody, {"messages": messages}, name, heat, most):
            yield text

    gr.ChatInterface(
        answer,
        chatbot=gr.Chatbot(show_label=False, height="65vh", buttons=["copy"], latex_delimiters=[], allow_tags=False),
        additional_inputs=[model, system, *_settings()],
        additional_inputs_accordion=gr.Accordion("Settings", open=False, render=False),
        flagging_mode="never",
        analytics_enabled=False,
        api_visibility="private",
        concurrency_limit=None,
    )
    return model


def _add_writing(service: Service, names: Sequence[str]) -> gradio.Dropdown:
    gr = _gradio()
    text = gr.Textbox(
        label="Text, which the model continues", lines=12, max_lines=30, max_length=500_000, autofocus=True
    )
    with gr.Row():
        write, stop = gr.Button("Continue", variant="primary"), gr.Button("Stop", interactive=False)
    with gr.Accordion("Settings", open=False):
        settings = [_model_choice(names), *_settings()]
        for setting in settings:
            setting.render()

    async def continue_text(prompt: str, name: str, heat: str | None, most: str | None) -> AsyncIterator[str]:
        async for added in _streamed(service, CompletionBody, {"prompt": prompt}, name, heat, most):
            yield prompt + added

    def writing(now: bool) -> list[gradio.Button]:
        return [gr.Button(interactive=not now), gr.Button(interactive=now)]

    buttons = {"inputs": None, "outputs": [write, stop], "queue": False, "api_visibility": "private"}
    begun = write.click(partial(writing, True), **buttons)
    written = begun.then(
        continue_text, [text, *settings], text, show_progress="hidden", concurrency_limit=None, api_visibility="private"
    )
    written.success(partial(writing, False), **buttons)
    written.failure(partial(writing, False), **buttons)
    stop.click(partial(writing, False), **buttons, cancels=[written])
    return settings[0]


def _model_choice(names: Sequence[str]) -> gradio.Dropdown:
    """Of one tab; not rendered yet, as `_settings`."""
    return _gradio().Dropdown(list(names), value=names[0] if names else None, label="Model", render=False)


def _model_choices(service: Service, kind: int) -> gradio.Dropdown:
    """The choice of the models that there are now."""
    names = _names(service)[kind]
    return _gradio().Dropdown(choices=names, value=names[0]) if names else _gradio().skip()


def _settings() -> list[gradio.Textbox]:
    """Those that both kinds of models have; where they are empty, the model's own hold."""
    shown = {
        "Temperature": "the model's own",
        "Most tokens": "as many as fit",
    }  # gr.Number would send 0 for an empty field
    field = partial(_gradio().Textbox, max_length=20, render=False)
    return [field(label=name, placeholder=default) for name, default in shown.items()]


def _names(service: Service) -> tuple[list[str], list[str]]:
    """The models that hold conversations, and the others."""
    names = service.models.names
    texts = [name for name in names if service.models.holds_conversations(name) is False]
    return [name for name in names if name not in texts], texts


def _text_of(content: Any) -> str:
    """The text of one of Gradio's messages: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


async def _streamed(
    service: Service,
    kind: type[ChatBody | CompletionBody],
    asked: dict[str, Any],
    name: str,
    heat: str | None,
    most: str | None,
) -> AsyncIterator[str]:
    """The text of an answer so far, each time that more of it has come. Raises Gradio's error."""
    written, log = "", RequestLog(id=request_id(""))
    try:
        limits = {"temperature": _number(heat, "Temperature"), "max_tokens": _number(most, "Most tokens")}
        body = kind.model_validate({"model": name or "", "stream": True, **asked, **limits})
        answer = await service.begin(log, body, 1, None, _prepare(body, service.settings))
        try:
            async for pieces in answer:
                written += "".join(piece.text for _, piece in pieces)
                yield written
                await asyncio.sleep(UPDATE_SECONDS)
        finally:
            await answer.close()
            service.metrics.answer(answer)
    except ValidationError as error:
        raise _gradio().Error(error.errors()[0]["msg"], print_exception=False) from None
    except (ApiError, TinyslmError) as error:
        raise _gradio().Error(api_error(error).message, print_exception=False) from None


def _number(text: str | None, name: str) -> float | None:
    """The number in a field, whole if it can be; `None` if the field is empty. Raises `TinyslmError`."""
    try:
        number = float(text) if text and text.strip() else None
    except ValueError:
        raise TinyslmError(f"{name}: {text} is not a number.", "Give one, or leave the field empty.") from None
    return int(number) if number is not None and number.is_integer() else number


def _prepare(body: ChatBody | CompletionBody, settings: ServerSettings) -> Prepare:
    def prepare(model: ServedModel, grammar: Grammar | None) -> list[Request]:
        if isinstance(body, ChatBody):
            return [chat_request(body, "none", grammar, model, settings)]
        return [completion_request(body, prompt, grammar, model, settings) for prompt in body.prompts]

    return prepare


def _shared() -> dict[str, Any]:
    """Settings of Gradio's servers."""
    return {
        "ssr_mode": False,
        "footer_links": [],
        "run_history": False,
        "mcp_server": False,
        "max_file_size": 0,
        "app_kwargs": {"middleware": [Middleware(Confined)], "docs_url": None, "redoc_url": None, "openapi_url": None},
    }


def _gradio() -> Any:
    """The package. Raises `TinyslmError` if it is not installed."""
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        raise require_extra("gradio", "An interface made with Gradio") from error
    return gr
