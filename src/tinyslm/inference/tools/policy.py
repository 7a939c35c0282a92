"""How far a tool-call loop may go, and what its next step may do. Plain decisions, without model, tools or clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tinyslm.core.config import Section

if TYPE_CHECKING:
    from tinyslm.inference.tools.running import Call

Choice = Literal["auto", "required", "none"]
"""Whether a step may call tools, must, or must answer; the values of OpenAI's `tool_choice`."""
Finish = Literal["answer", "steps", "repeats", "time", "length"]

MAX_REPEATS = 2
"""Steps in a row that only repeat the calls of the step before."""


class LoopLimits(Section):
    """How far a tool-call loop may go."""

    max_steps: int = Field(default=8, gt=0, description="Steps of the model; the last one must be an answer.")
    tool_timeout: float = Field(default=30.0, gt=0, description="Seconds that a tool may take.")
    time_limit: float | None = Field(default=None, gt=0, description="Seconds that the whole run may take.")
    parallel: bool = Field(default=True, description="Let the model make several calls in one step.")
    call_first: bool = Field(
        default=False, description="Make the first step a call: small models seldom think of one themselves."
    )
    result_tokens: int | None = Field(
        default=None,
        gt=0,
        description="Longest result of a tool that the model gets to read; a quarter of the context.",
    )


class StepPolicy:
    """Counts steps, and ends loops that make no progress."""

    def __init__(self, max_steps: int, *, call_first: bool = False) -> None:
        self.step = 0
        self._max_steps, self._call_first = max_steps, call_first
        self._before: set[str] = set()
        self._repeats = 0

    def advance(self) -> Choice:
        """Begin the next step: whether it may call tools, must, or must answer."""
        self.step += 1
        if self.forced:
            return "none"
        return "required" if self._call_first and self.step == 1 else "auto"

    @property
    def forced(self) -> Finish | None:
        """Why this step must answer; `None` if it need not."""
        if self._repeats >= MAX_REPEATS:
            return "repeats"
        return "steps" if self.step >= self._max_steps else None

    def repeated(self, calls: Sequence[Call]) -> list[bool]:
        """Which calls of this step were made in the step before already, or earlier in this one.

        The same call after other ones does not count: a file that was written in between may be read again.
        """
        keys = [f"{call.name} {json.dumps(call.arguments, sort_keys=True)}" for call in calls]
        again = [key in self._before or key in keys[:number] for number, key in enumerate(keys)]
        self._repeats = self._repeats + 1 if all(again) else 0
        self._before = set(keys)
        return again
