"""What is recorded of a request while it is answered, for the log and for /metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import Scope

from tinyslm.core.printable import one_line
from tinyslm.inference.request import Usage


@dataclass
class RequestLog:
    """user: the name of the API key. first: seconds until the first token. ended: why the answer ended early."""

    begun: float = field(default_factory=time.perf_counter)
    model: str = ""
    user: str = ""
    usage: Usage | None = None
    first: float = 0.0
    ended: str = ""
    prompt: str = ""
    answer: str = ""

    def line(self, method: str, path: str, status: int) -> str:
        """One line for the log."""
        usage = self.usage or Usage()
        tokens = f"prompt={usage.prompt_tokens} cached={usage.cached_tokens} generated={usage.generated_tokens}"
        parts = (
            f"{time.strftime('%H:%M:%S')} {method[:10]} {one_line(path, 100)} {status}",
            self.user and f"key={self.user}",
            self.model and f"model={one_line(self.model, 60)}",
            self.usage and tokens,
            self.first and f"first={self.first:.3f}s",
            f"total={time.perf_counter() - self.begun:.3f}s",
            self.ended,
        )
        return " ".join(str(part) for part in parts if part)


def log_of(scope: Scope) -> RequestLog:
    """The log of a request, created by the first call."""
    log: RequestLog = scope.setdefault("tinyslm.log", RequestLog())
    return log
