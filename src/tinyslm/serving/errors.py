"""Errors in the format of OpenAI's API: `{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.inference.engine import EngineFull
from tinyslm.serving.encoding import JsonResponse, event
from tinyslm.serving.models import Unavailable, UnknownModel
from tinyslm.serving.schemas.common import FieldError

RETRY_SECONDS = 1
"""When a client should try again that was rejected for lack of room."""

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_NO_RETRY = {"x-should-retry": "false"}

_REQUIREMENTS = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "an integer",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "an array",
    "literal_error": "{expected}",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_type": "a string",
    "too_short": "an array of at least {min_length} items",
    "union_tag_invalid": "an object whose type is one of {expected_tags}",
    "union_tag_not_found": "an object with a type",
}
"""What a value must be, by pydantic's names of errors."""

_TOO_LONG = {"too_long": "items", "string_too_long": "characters"}


class ErrorDetail(BaseModel):
    """param: the field of the request that the error is about."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """An error response: HTTP status, message, code for programs, field of the request, further headers."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> Response:
        return JsonResponse(self.body, status_code=self.status, headers=self.headers)

    @property
    def event(self) -> bytes:
        """The last event of a stream that has begun."""
        return event(self.body)


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, code, param=param)


def full(message: str) -> ApiError:
    return ApiError(429, message, "queue_full", headers={"Retry-After": str(RETRY_SECONDS)})


def unavailable(message: str, code: str) -> ApiError:
    return ApiError(503, message, code, headers={"Retry-After": str(RETRY_SECONDS)})


def shutting_down() -> ApiError:
    return unavailable("The server is shutting down.", "closing")


def disconnected() -> ApiError:
    """The client has closed the connection: this is only logged."""
    return ApiError(499, "The client has closed the connection.", "client_gone")


def too_slow(seconds: float) -> ApiError:
    return ApiError(504, f"The answer was not complete after {seconds:g} seconds.", "time_limit", headers=_NO_RETRY)


def api_error(error: Exception) -> ApiError:
    """The response for any exception; those that are not the client's fault are reported without details."""
    message = f"{error.problem} {error.remedy}" if isinstance(error, TinyslmError) else ""
    match error:
        case ApiError():
            found = error
        case RequestValidationError():
            found = _validation_error(error.errors())
        case UnknownModel():
            found = ApiError(404, message, "model_not_found", param="model")
        case Unavailable():
            found = unavailable(message, "model_unavailable")
        case EngineFull():
            found = full(message)
        case TinyslmError():
            found = bad_request(message)
        case _:
            message = "An internal error occurred; the server's log has details."
            found = ApiError(500, message, "internal_error", headers=_NO_RETRY)
    return found


def add_error_handlers(app: FastAPI) -> None:
    """Report every error of the app in OpenAI's format."""

    async def respond(request: Request, error: Exception) -> Response:
        return (_http_error(request, error) if isinstance(error, HTTPException) else api_error(error)).response

    for kind in (ApiError, TinyslmError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond)


def _http_error(request: Request, error: HTTPException) -> ApiError:
    code, message = {
        404: ("not_found", f"There is nothing at {one_line(request.url.path, 100)}."),
        405: ("method_not_allowed", f"{request.method} is not supported here."),
        400: ("invalid_json", "The body is not valid JSON."),
    }.get(error.status_code, ("error", str(error.detail)))
    return ApiError(error.status_code, message, code, headers=error.headers)


def _validation_error(errors: Sequence[Any]) -> ApiError:
    """The response for pydantic's errors in a body: the deepest one, which is of the alternative that was meant.

    Of several at the same depth, one about a length is preferred to one about the type.
    """
    error = max(errors, key=lambda one: (len(one["loc"]), one["type"] in _TOO_LONG))
    kind, param = error["type"], _param(error["loc"])
    what = param or "The body"
    if kind == "json_invalid":
        return bad_request("The body is not valid JSON.", code="invalid_json")
    if kind == "missing":
        return bad_request(f"{what} is missing.", param, "missing")
    if kind == "extra_forbidden":
        return bad_request(f'There is no field "{param}".', param, "unknown_field")
    if kind == "value_error":
        cause = error["ctx"]["error"]
        field = cause.param if isinstance(cause, FieldError) else param
        return bad_request(f"{param}: {cause}" if param else str(cause), field)
    if kind in _TOO_LONG:
        size, limit = len(error["input"]), error["ctx"]["max_length"]
        return bad_request(f"{what} has {size:,} {_TOO_LONG[kind]}. Give at most {limit:,}.", param)
    limits = {name: f"{value:g}" if isinstance(value, float) else value for name, value in error.get("ctx", {}).items()}
    requirement = _REQUIREMENTS.get(kind, "another value").format_map(limits)
    shown = one_line(json.dumps(error["input"], default=str)[:200], 100)
    return bad_request(f"{what} must be {requirement}, not {shown}.", param)


def _param(place: Sequence[object]) -> str | None:
    """The field at `place`, such as `messages.0.role`, without the members of unions that pydantic adds to the keys."""
    keys = [part for number, part in enumerate(place) if not (number == 0 and part == "body")]
    tags = [False, *(part in ("response_format", "format") for part in keys)]  # followed by their `type`
    return ".".join(str(key) for key, tag in zip(keys, tags, strict=False) if not tag and not _is_union(key)) or None


def _is_union(key: object) -> bool:
    """Whether a key names a member of a union."""
    members = ("constrained-", "ToolChoice", "FunctionChoice")
    return isinstance(key, str) and (key in ("str", "int", "bool") or "[" in key or key.startswith(members))
