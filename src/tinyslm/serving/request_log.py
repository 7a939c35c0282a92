"""The log: what is recorded of a request while it is answered, also for /metrics, and the lines that are written.

A line has the time, the level, and the id of the request that it is about, or `-`.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.types import Scope

from tinyslm.core.printable import one_line
from tinyslm.inference.request import Usage

REQUEST = ContextVar("REQUEST", default="-")
"""The id of the request that is being answered."""

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def request_id(given: str) -> str:
    """The id that a proxy gave the request, or a new one."""
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


@dataclass
class RequestLog:
    """begun, first, last: monotonic times in seconds, of the request, its first token and its last.

    user: the name of the API key. ended: why the answer ended early. texts: of the answer, if it is to be logged.
    """

    id: str = ""
    begun: float = field(default_factory=time.perf_counter)
    first: float = 0.0
    last: float = 0.0
    model: str = ""
    user: str = ""
    usage: Usage | None = None
    ended: str = ""
    prompt: str = ""
    texts: list[str] | None = None

    def token(self) -> None:
        """Record the time of a token."""
        self.last = time.perf_counter()
        self.first = self.first or self.last

    def fields(self, method: str, path: str, status: int) -> dict[str, Any]:
        """What is logged of the request when it has ended, without what is not known; times in seconds."""
        usage = self.usage
        found = {
            "method": method[:10],
            "path": one_line(path, 100),
            "status": status,
            "key": self.user or None,
            "model": one_line(self.model, 60) or None,
            "prompt": usage and usage.prompt_tokens,
            "cached": usage and usage.cached_tokens,
            "generated": usage and usage.generated_tokens,
            "first": self.first - self.begun if self.first else None,
            "total": time.perf_counter() - self.begun,
            "ended": self.ended or None,
        }
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in found.items()
            if value is not None
        }


def log_of(scope: Scope) -> RequestLog:
    """The log of a request, created by the first call."""
    log: RequestLog = scope.setdefault("tinyslm.log", RequestLog())
    return log


def access_line(fields: Mapping[str, Any]) -> str:
    """`RequestLog.fields` for people."""
    values, named = [*fields.values()][:3], [*fields.items()][3:]
    return " ".join([*map(str, values), *(f"{name}={_shown(value)}" for name, value in named)])


def _shown(value: object) -> str:
    return f"{value:.3f}s" if isinstance(value, float) else str(value)


def set_up_log(*, as_json: bool) -> None:
    """Write warnings of all libraries, and everything of the server, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tinyslm.serving").setLevel(logging.INFO)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL REQUEST message`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname} {_request(record)} {super().format(record)}"


class JsonFormatter(logging.Formatter):
    """An object per line: `time`, `level`, `request`, and the record's `fields` or else its `message`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            fields = {**fields, "traceback": self.formatException(record.exc_info)}
        line = {"time": _time(record), "level": record.levelname, "request": _request(record), **fields}
        return json.dumps(line, ensure_ascii=False)


def json_line(message: str) -> str:
    """A message as a line of the log in JSON."""
    return JsonFormatter().format(logging.makeLogRecord({"msg": message, "levelname": "INFO"}))


def _request(record: logging.LogRecord) -> str:
    """The record's `request`, where it is logged outside the request's own task."""
    return str(getattr(record, "request", "") or REQUEST.get())


def _time(record: logging.LogRecord) -> str:
    """ISO 8601 with the offset of the local time zone."""
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
