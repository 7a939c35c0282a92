"""/v1/responses."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Request
from tinyslm.serving.constraints import conversation_grammar
from tinyslm.serving.encoding import JsonResponse
from tinyslm.serving.errors import ApiError, bad_request
from tinyslm.serving.models import ServedModel
from tinyslm.serving.prompting import answer_tokens, conversation_ids, sampling_settings
from tinyslm.serving.request_log import log_of
from tinyslm.serving.response_writer import ResponseWriter
from tinyslm.serving.schemas.chat import FunctionCall, Message, Tool, ToolCall
from tinyslm.serving.schemas.responses import Item, ResponseBody
from tinyslm.serving.service import service_of
from tinyslm.serving.writers import respond

router = APIRouter()


@router.post("/v1/responses")
async def responses(body: ResponseBody, http: HttpRequest) -> Response:
    """Answer a text or a conversation, whole or in events."""
    service, owner = service_of(http), log_of(http.scope).user
    messages = [*_previous_messages(body, http), *_messages(body.input)]
    tools = [Tool(type="function", function=tool) for tool in body.tools]
    choice = body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.name
    text_format = body.text.format if body.text else None
    grammar = conversation_grammar(tools, choice, body.parallel_tool_calls, text_format, "text.format")

    def prepare(model: ServedModel, compiled: Grammar | None) -> list[Request]:
        engine = model.engine
        system = [Message(role="system", content=body.instructions)] if body.instructions else []
        ids = conversation_ids([*system, *messages], () if choice == "none" else tools, engine)
        limit = answer_tokens(body.max_output_tokens, len(ids), engine.context, service.settings)
        return [Request(ids, sampling_settings(body, engine, limit), grammar=compiled, continues=False)]

    def store(writer: ResponseWriter) -> None:
        if body.store:
            service.responses.add(owner, [*messages, writer.message()], writer.whole())

    return await respond(http, body, 1, grammar, prepare, lambda answer: ResponseWriter(body, answer, store))


@router.get("/v1/responses/{name}")
async def get_response(name: str, http: HttpRequest) -> Response:
    """A stored response."""
    return JsonResponse(service_of(http).responses.get(name, log_of(http.scope).user).response)


@router.delete("/v1/responses/{name}")
async def delete_response(name: str, http: HttpRequest) -> Response:
    """Delete a stored response."""
    service_of(http).responses.remove(name, log_of(http.scope).user)
    return JsonResponse({"id": name, "object": "response", "deleted": True})


def _previous_messages(body: ResponseBody, http: HttpRequest) -> Sequence[Message]:
    if body.previous_response_id is None:
        return ()
    try:
        return service_of(http).responses.get(body.previous_response_id, log_of(http.scope).user).messages
    except ApiError as error:
        raise bad_request(
            f"{error.message} Stored responses are evicted: send the whole conversation.",
            "previous_response_id",
            "previous_response_not_found",
        ) from None


def _messages(given: str | Sequence[Item]) -> list[Message]:
    """The input as messages of a chat. Raises `ApiError` for an item that lacks a field."""
    if isinstance(given, str):
        return [Message(role="user", content=given)]
    messages: list[Message] = []
    for number, item in enumerate(given):
        match item.type:
            case "message":
                if item.role is None:
                    raise _missing(f"input.{number}.role")
                messages.append(Message(role=item.role, content=item.content))
            case "function_call":
                if not item.name:
                    raise _missing(f"input.{number}.name")
                _add_call(item, item.name, messages)
            case "function_call_output":
                messages.append(Message(role="tool", content=item.output, tool_call_id=item.call_id))
    if not messages:
        raise bad_request("The input has no message.", "input")
    return messages


def _missing(param: str) -> ApiError:
    return bad_request(f"{param} is missing.", param, "missing")


def _add_call(item: Item, name: str, messages: list[Message]) -> None:
    """Add a call to the assistant's last message, or as a message of its own."""
    call = ToolCall(id=item.call_id, function=FunctionCall(name=name, arguments=item.arguments or "{}"))
    if messages and messages[-1].role == "assistant":
        last = messages.pop()
        messages.append(last.model_copy(update={"tool_calls": [*(last.tool_calls or []), call]}))
    else:
        messages.append(Message(role="assistant", tool_calls=[call]))
