"""What is recorded of a request while it is answered, for the log and for /metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import Scope

from tinyslm.core.printable import one_line
from tinyslm.inference.request import Usage


@dataclass
class RequestLog:
    """begun, first, last: monotonic times in seconds, of the request, its first token and its last.

    user: the name of the API key. ended: why the answer ended early. texts: of the answer, if it is to be logged.
    """

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

    def line(self, method: str, path: str, status: int) -> str:
        usage = self.usage or Usage()
        tokens = f"prompt={usage.prompt_tokens} cached={usage.cached_tokens} generated={usage.generated_tokens}"
        parts = (
            f"{time.strftime('%H:%M:%S')} {method[:10]} {one_line(path, 100)} {status}",
            self.user and f"key={self.user}",
            self.model and f"model={one_line(self.model, 60)}",
            self.usage and tokens,
            self.first and f"first={self.first - self.begun:.3f}s",
            f"total={time.perf_counter() - self.begun:.3f}s",
            self.ended,
        )
        return " ".join(str(part) for part in parts if part)


def log_of(scope: Scope) -> RequestLog:
    """The log of a request, created by the first call."""
    log: RequestLog = scope.setdefault("tinyslm.log", RequestLog())
    return log
