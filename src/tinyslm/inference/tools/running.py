"""Running tool calls: side by side, each within a time limit, whatever goes wrong in them.

A thread cannot be killed. A call that does not return in time is left behind: the model reads so and the agent goes
on, while the call's thread runs until it ends by itself or the program does (which does not wait for it); what it
returns then is thrown away. A tool that has left several calls behind is not called any more until one of them ends.
Coroutine functions are cancelled at their next `await` instead.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from pydantic_core import to_json

from tinyslm.inference.tools.tool import Tool, ToolError

MOST_LEFT_BEHIND = 4  # calls of one tool that hang


@dataclass(frozen=True)
class Call:
    """A model's wish to call a tool."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a call gave, as text for the model; failed: what went wrong. seconds: how long it took."""

    text: str
    failed: bool = False
    seconds: float = field(default=0.0, compare=False)


class ToolRunner:
    """Runs calls of the tools that it was given, and of no other."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._left_behind: dict[str, list[Thread]] = defaultdict(list)

    def run(self, calls: Sequence[Call], timeout: float) -> list[Outcome]:
        """The outcomes of calls that run at the same time, in order; none takes longer than `timeout` seconds."""
        started = time.monotonic()
        running = [self._start(call, timeout) for call in calls]
        outcomes = []
        for call, (thread, outcome) in zip(calls, running, strict=True):
            if thread is not None:
                thread.join(max(0.0, started + timeout - time.monotonic()))
                if thread.is_alive() and not outcome:
                    self._left_behind[call.name].append(thread)
            seconds = time.monotonic() - started
            late = Outcome(f"{call.name} gave no answer within {timeout:g} seconds.", True, seconds)
            outcomes.append(outcome[0] if outcome else late)
        return outcomes

    def _start(self, call: Call, timeout: float) -> tuple[Thread | None, list[Outcome]]:
        """A thread that puts the outcome into the list when there is one; no thread where it is clear at once."""
        tool = self._tools.get(call.name)
        if tool is None:
            return None, [Outcome(f"There is no tool {call.name}.", True)]
        hanging = [thread for thread in self._left_behind[call.name] if thread.is_alive()]
        self._left_behind[call.name] = hanging
        if len(hanging) >= MOST_LEFT_BEHIND:
            return None, [Outcome(f"{call.name} is still busy with {len(hanging)} earlier calls.", True)]
        try:
            values = tool.check(call.arguments)
        except ToolError as error:
            return None, [Outcome(str(error), True)]
        outcome: list[Outcome] = []
        context = contextvars.copy_context()
        # A daemon: the interpreter does not wait for it at its end, as it would for the threads of a pool.
        thread = Thread(
            target=lambda: outcome.append(context.run(_outcome, tool.call, values, timeout)),
            name=f"tool-{call.name}",
            daemon=True,
        )
        thread.start()
        return thread, outcome


def _outcome(function: Callable[..., Any], values: Mapping[str, Any], timeout: float) -> Outcome:
    started = time.monotonic()
    try:
        value = function(**values)
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value, timeout))
        text, failed = _text(value), False
    except ToolError as error:
        text, failed = str(error), True
    except TimeoutError:
        text, failed = f"It gave no answer within {timeout:g} seconds.", True
    except BaseException as error:  # the program goes on, even where a tool wants to end it
        text, failed = f"{type(error).__name__}: {error}", True
    return Outcome(text, failed, time.monotonic() - started)


async def _awaited(value: Any, timeout: float) -> Any:
    return await asyncio.wait_for(value, timeout)


def _text(value: Any) -> str:
    """Texts as they are, nothing as "done", everything else as JSON."""
    if isinstance(value, str):
        return value
    return "done" if value is None else to_json(value, fallback=str).decode()
