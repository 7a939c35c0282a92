"""The course of an agent's run: what the next step may do. Plain decisions, without model, tools or clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from tinyslm.agents.running import Call

Choice = Literal["auto", "required", "none"]
Finish = Literal["answer", "steps", "repeats", "time", "length"]

MOST_REPEATS = 2  # steps in a row that only repeat the calls of the step before


class Course:
    """Counts steps, and sees where they lead nowhere."""

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
        if self._repeats >= MOST_REPEATS:
            return "repeats"
        return "steps" if self.step >= self._max_steps else None

    def repeated(self, calls: Sequence[Call]) -> list[bool]:
        """Which calls of this step were made in the step before already, or earlier in this one.

        The same call after other ones is none of these: a file that was written in between may be read again.
        """
        keys = [f"{call.name} {json.dumps(call.arguments, sort_keys=True)}" for call in calls]
        again = [key in self._before or key in keys[:number] for number, key in enumerate(keys)]
        self._repeats = self._repeats + 1 if all(again) else 0
        self._before = set(keys)
        return again
