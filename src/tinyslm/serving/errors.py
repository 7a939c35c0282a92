"""Errors in the form of OpenAI's API: `{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tinyslm.core.config import wrong_value
from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.inference.engine import EngineFull
from tinyslm.serving.models import Unavailable, UnknownModel
from tinyslm.serving.shapes.body import FieldMistake
from tinyslm.serving.wire import Json, encode

RETRY_SECONDS = 1
"""When a client that was refused for want of room should try again."""

_TOO_LONG = ("too_long", "string_too_long")
_STATUS_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    """What went wrong; `param`: the field that is wrong, where it is one."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer that is an error: HTTP status, message, code for programs, the field that is wrong."""

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
        """As OpenAI's API tells it."""
        kind = _STATUS_TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> Response:
        """As an HTTP response."""
        return Json(self.body, status_code=self.status, headers=self.headers)

    @property
    def event(self) -> bytes:
        """As the last event of a stream that has begun."""
        return b"data: " + encode(self.body) + b"\n\n"


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """The client's mistake."""
    return ApiError(400, message, code, param=param)


def full(message: str) -> ApiError:
    """Too many requests at once."""
    return ApiError(429, message, "queue_full", headers={"Retry-After": str(RETRY_SECONDS)})


def unavailable(message: str, code: str) -> ApiError:
    """The server cannot do it now."""
    return ApiError(503, message, code, headers={"Retry-After": str(RETRY_SECONDS)})


def closing() -> ApiError:
    """The server is being stopped."""
    return unavailable("The server is being stopped.", "closing")


def api_error(error: Exception) -> ApiError:
    """How any exception is told to a client. What is not the client's mistake is told without details."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnknownModel):
        return ApiError(404, f"{error.problem} {error.remedy}", "model_not_found", param="model")
    if isinstance(error, Unavailable):
        return unavailable(f"{error.problem} {error.remedy}", "model_unavailable")
    if isinstance(error, EngineFull):
        return full(f"{error.problem} {error.remedy}")
    if isinstance(error, TinyslmError):
        return bad_request(f"{error.problem} {error.remedy}")
    return ApiError(500, "The server failed; its log says how.", "internal_error", headers={"x-should-retry": "false"})


def install(app: FastAPI) -> None:
    """Let every error of the app have OpenAI's form."""
    for kind in (ApiError, TinyslmError):
        app.add_exception_handler(kind, _tell)
    app.add_exception_handler(RequestValidationError, _tell_validation)
    app.add_exception_handler(HTTPException, _tell_http)


async def _tell(_request: Request, error: Exception) -> Response:
    return api_error(error).response


async def _tell_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return validation_error(error.errors()).response


async def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed", 400: "invalid_json"}.get(error.status_code, "error")
    message = {
        404: f"There is nothing at {one_line(request.url.path, 100)}.",
        405: f"{request.method} is not possible here.",
        400: "The body is not valid JSON.",
    }.get(error.status_code, str(error.detail))
    return ApiError(error.status_code, message, code, headers=error.headers).response


def validation_error(mistakes: Sequence[Any]) -> ApiError:
    """The error for pydantic's mistakes in a body: the deepest one, which is of the alternative that was meant.

    Of several at the same depth, one about length is preferred to one about the type.
    """
    mistake = max(mistakes, key=lambda one: (len(one["loc"]), one["type"] in _TOO_LONG))
    param = _param(mistake["loc"])
    if mistake["type"] == "json_invalid":
        return bad_request("The body is not valid JSON.", code="invalid_json")
    if mistake["type"] == "missing":
        return bad_request(f"{param or 'The body'} is missing.", param, "missing")
    if mistake["type"] == "value_error":
        error = mistake["ctx"]["error"]
        field = error.param if isinstance(error, FieldMistake) else param
        return bad_request(f"{param}: {error}" if param else str(error), field)
    if mistake["type"] == "extra_forbidden":
        return bad_request(f'There is no field "{param}".', param, "unknown_field")
    if mistake["type"] in _TOO_LONG:
        return bad_request(_too_long(param or "The body", mistake), param)
    if mistake["type"] in ("model_type", "model_attributes_type", "dict_type"):
        text = f"{param or 'The body'} must be a JSON object."
    else:
        text = one_line(f"{param or 'The body'} = {wrong_value(mistake)}", 400)
    return bad_request(text, param)


def _too_long(what: str, mistake: Any) -> str:
    unit = "characters" if mistake["type"] == "string_too_long" else "items"
    return f"{what} has {len(mistake['input']):,} {unit}. Give at most {mistake['ctx']['max_length']:,}."


def _param(place: Sequence[object]) -> str | None:
    """The field at `place`, as in `messages.0.role`; without the kinds of values that pydantic names among the keys."""
    if place[:1] == ("body",):
        place = place[1:]
    tagged = [False, *(part in ("response_format", "format") for part in place)]  # their `type` is told next
    return (
        ".".join(str(part) for part, tag in zip(place, tagged, strict=False) if not tag and not _is_kind(part)) or None
    )


def _is_kind(part: object) -> bool:
    """Whether a part of a place is one of several kinds that a value may have, which pydantic names among the keys."""
    kinds = ("constrained-", "Named")
    return isinstance(part, str) and (part in ("str", "int", "bool") or "[" in part or part.startswith(kinds))
