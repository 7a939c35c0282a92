"""/v1/responses."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.request import Request
from tinyslm.serving.errors import bad_request
from tinyslm.serving.kept import Kept
from tinyslm.serving.models import Served
from tinyslm.serving.prompting import (
    answer_tokens,
    content_text,
    conversation_grammar,
    conversation_ids,
    sampling,
)
from tinyslm.serving.response_events import ResponseEvents
from tinyslm.serving.service import service_of
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.shapes.chat import CalledFunction, Function, Message, Tool, ToolCall
from tinyslm.serving.shapes.responses import Item, ResponseBody
from tinyslm.serving.streaming import EventStream
from tinyslm.serving.visit import visit_of
from tinyslm.serving.wire import Json

router = APIRouter()


@router.post("/v1/responses")
async def responses(body: ResponseBody, http: HttpRequest) -> Response:
    """Answer a text or a conversation, whole or event by event."""
    service, kept, owner = service_of(http), kept_of(http), visit_of(http.scope).user
    messages = [*kept.messages(body.previous_response_id, owner), *_messages(body.input)]
    answer, events = await service.begin(
        http,
        body,
        1,
        lambda served: [_request(body, messages, served, service.settings)],
        lambda answer: ResponseEvents(body, answer.served.name, sampling(body, answer.served.engine)),
    )

    def keep() -> None:
        if body.store:
            kept.add(events.id, owner, [*messages, events.message()], events.told(answer.usage))

    if body.stream:

        def end() -> bytes:
            keep()
            return events.end(answer.usage)

        return EventStream(answer, lambda pieces: b"".join(events.write(one) for _, one in pieces), end, events.fail)
    async with service.answering(http, answer):
        async for pieces in answer:
            for _, piece in pieces:
                events.write(piece)
    events.end(answer.usage)
    keep()
    return Json(events.told(answer.usage))


@router.get("/v1/responses/{name}")
async def one_response(name: str, http: HttpRequest) -> Response:
    """An answer that was kept."""
    return Json(kept_of(http).told(name, visit_of(http.scope).user))


@router.delete("/v1/responses/{name}")
async def forget_response(name: str, http: HttpRequest) -> Response:
    """Forget an answer that was kept."""
    kept_of(http).remove(name, visit_of(http.scope).user)
    return Json({"id": name, "object": "response", "deleted": True})


def kept_of(http: HttpRequest) -> Kept:
    """The answers that the server keeps."""
    kept: Kept = http.app.state.kept
    return kept


def _request(body: ResponseBody, messages: Sequence[Message], served: Served, settings: ServerSettings) -> Request:
    engine = served.engine
    tools = [Tool(type="function", function=Function(**dict(tool))) for tool in body.tools]
    choice = body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.name
    if choice not in ("none", "auto") and (
        choice not in [tool.name for tool in body.tools] if choice != "required" else not tools
    ):
        raise bad_request(f"tool_choice is {choice}, and no such tool is given.", "tool_choice")
    told = () if choice == "none" else tools
    before = [Message(role="system", content=body.instructions)] if body.instructions else []
    ids = conversation_ids([*before, *messages], told, engine)
    form = body.text.format if body.text else None
    return Request(
        ids,
        sampling(body, engine, answer_tokens(body.max_output_tokens, len(ids), engine.context, settings)),
        grammar=conversation_grammar(told, choice, body.parallel_tool_calls, form, served, param="text.format"),
        continues=False,
    )


def _messages(given: str | Sequence[Item]) -> list[Message]:
    """The input as messages of a chat. Raises `ApiError` for an item that lacks something."""
    if isinstance(given, str):
        return [Message(role="user", content=given)]
    messages: list[Message] = []
    for place, item in enumerate(given):
        match item.type:
            case "message":
                messages.append(_message(item, f"input.{place}"))
            case "function_call":
                _add_call(item, messages, f"input.{place}")
            case "function_call_output":
                output = content_text(item.output, f"input.{place}.output")
                messages.append(Message(role="tool", content=output, tool_call_id=item.call_id))
    if not messages:
        raise bad_request("The input has no message.", "input")
    return messages


def _message(item: Item, param: str) -> Message:
    if item.role is None:
        raise bad_request(f"{param}.role is missing.", f"{param}.role", "missing")
    return Message(role=item.role, content=content_text(item.content, f"{param}.content"))


def _add_call(item: Item, messages: list[Message], param: str) -> None:
    """Calls that follow each other, or what the assistant said, are of one message."""
    if not item.name:
        raise bad_request(f"{param}.name is missing.", f"{param}.name", "missing")
    call = ToolCall(id=item.call_id, function=CalledFunction(name=item.name, arguments=item.arguments or "{}"))
    if messages and messages[-1].role == "assistant":
        last = messages.pop()
        messages.append(last.model_copy(update={"tool_calls": [*(last.tool_calls or []), call]}))
    else:
        messages.append(Message(role="assistant", tool_calls=[call]))
