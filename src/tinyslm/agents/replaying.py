"""Replaying a trace: the model says everything again, and tools return what they returned then."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tinyslm.agents.agent import Agent, AgentResult
from tinyslm.agents.trace import Returned, Said, Trace
from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.runtimes.endpoint import Endpoint
from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tools.running import Call, Outcome
from tinyslm.inference.tools.tool import Tool, ToolError


@dataclass(frozen=True)
class Difference:
    """Where a replay is not as the trace has it. what: such as "step 2, text"; recorded and now: as text."""

    what: str
    recorded: str
    now: str


@dataclass(frozen=True)
class Replay:
    """A run again; `differences`: from the recorded one, none where all is the same."""

    result: AgentResult
    differences: list[Difference]


def replay(trace: Trace, agent: Agent) -> Replay:
    """Run a trace's task again. No tool is called: each call gets what it returned then, as long as it is the same one.

    Seeds and settings are the trace's. Where a call differs, it fails, as nothing is known of what it would give.
    """
    messages = trace.start.messages
    again = Agent(agent.engine, agent.tools, settings=_settings(trace), **{**trace.start.limits, "time_limit": None})
    recorded = _Recorded(trace.returned)
    *_, result = again.steps_with(messages, recorded.run)
    assert isinstance(result, AgentResult)
    return Replay(result, [*_beginnings(trace, result.trace), *_differences(trace, result.trace)])


def recorded_agent(trace: Trace, engine: Engine | Endpoint) -> Agent:
    """An agent with the tools that a trace names, for `replay`; they cannot be called otherwise."""

    def unknown(**_: object) -> str:
        raise ToolError("This tool is only known from a trace.")

    tools = []
    for schema in trace.start.tools:
        function = schema.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("parameters"), dict):
            raise TinyslmError("The trace describes a tool that cannot be read.", "Use the file as it was written.")
        tools.append(Tool(str(function.get("name")), str(function.get("description")), function["parameters"], unknown))
    return Agent(engine, tools)


class _Recorded:
    """What calls returned, by the order in which they were made."""

    def __init__(self, returned: Sequence[Returned]) -> None:
        self._left = {record.call.id: record for record in returned}

    def run(self, calls: Sequence[Call], _seconds: float) -> list[Outcome]:
        return [self._outcome(call) for call in calls]

    def _outcome(self, call: Call) -> Outcome:
        record = self._left.get(call.id)
        if record is None or (record.call.name, record.call.arguments) != (call.name, dict(call.arguments)):
            return Outcome("This call was not recorded.", failed=True)
        return Outcome(record.text, record.failed, record.seconds)


def _settings(trace: Trace) -> SamplingSettings:
    return build_config(SamplingSettings, trace.start.settings, "the trace's settings")


def _beginnings(old: Trace, new: Trace) -> list[Difference]:
    pairs = {
        "engine": (old.start.engine, new.start.engine),
        "weights": (old.start.checksum, new.start.checksum),
        "tools": (_json(old.start.tools), _json(new.start.tools)),
    }
    return [Difference(what, before, now) for what, (before, now) in pairs.items() if before != now]


def _differences(old: Trace, new: Trace) -> list[Difference]:
    """Of the model's steps, and of the end."""
    found = []
    for before, now in zip(old.said, new.said, strict=False):
        found += [
            Difference(f"step {before.step}, {what}", str(was), str(value))
            for what, was, value in _parts(before, now)
            if was != value
        ]
    if len(old.said) != len(new.said):
        found.append(Difference("number of steps", str(len(old.said)), str(len(new.said))))
    before_end, now_end = old.end, new.end
    if before_end and now_end and before_end.finish != now_end.finish:
        found.append(Difference("finish", before_end.finish, now_end.finish))
    return found


def _parts(before: Said, now: Said) -> list[tuple[str, str, str]]:
    calls = [_json([[call.name, call.arguments] for call in said.calls]) for said in (before, now)]
    return [("text", before.text, now.text), ("calls", calls[0], calls[1])]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
