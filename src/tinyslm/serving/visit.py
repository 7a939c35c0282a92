"""What is noted of each request while it is answered: for the log, and for the figures at /metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import Scope

from tinyslm.core.printable import one_line
from tinyslm.inference.request import Usage

_NAME = "tinyslm.visit"


@dataclass
class Visit:
    """One request. route: the path as the server knows it, for metrics; first: seconds until the first token."""

    begun: float = field(default_factory=time.perf_counter)
    route: str = ""
    model: str = ""
    user: str = ""
    usage: Usage | None = None
    first: float = 0.0
    ended: str = ""
    prompt: str = ""
    answer: str = ""

    def line(self, method: str, path: str, status: int) -> str:
        """One line for the log."""
        parts = [time.strftime("%H:%M:%S"), method[:10], one_line(path, 100), str(status)]
        if self.user:
            parts.append(f"key={self.user}")
        if self.model:
            parts.append(f"model={one_line(self.model, 60)}")
        if self.usage is not None:
            used = self.usage
            parts.append(f"prompt={used.prompt_tokens} cached={used.cached_tokens} generated={used.generated_tokens}")
        if self.first:
            parts.append(f"first={self.first:.3f}s")
        parts.append(f"total={time.perf_counter() - self.begun:.3f}s")
        if self.ended:
            parts.append(self.ended)
        return " ".join(parts)


def visit_of(scope: Scope) -> Visit:
    """The visit of a request; a new one at first."""
    visit: Visit = scope.setdefault(_NAME, Visit())
    return visit
