"""The agent: a model and its tools, whose runs are recorded in traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyslm.agents.trace import End, Returned, Said, Start, Trace
from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.runtimes.endpoint import Endpoint, EndpointChat
from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import GreedySampling, SamplingSettings
from tinyslm.inference.tools.chat import ChatModel, EngineChat
from tinyslm.inference.tools.loop import (
    CallMade,
    CallReturned,
    Ended,
    LoopEvent,
    RunCalls,
    StepTaken,
    TextSaid,
    ToolLoop,
)
from tinyslm.inference.tools.policy import Finish, LoopLimits
from tinyslm.inference.tools.running import ToolRunner
from tinyslm.inference.tools.tool import Tool


@dataclass(frozen=True)
class Begun:
    """The run has begun; what happens is added to its trace."""

    trace: Trace


@dataclass(frozen=True)
class AgentResult:
    """The end of a run: the answer, the number of steps, and why it ended (see `Ended`)."""

    text: str
    trace: Trace
    steps: int
    finish: Finish


Event = Begun | TextSaid | CallMade | CallReturned | AgentResult


class Agent:
    """A model and the tools that it may call.

    Attributes: `model`, `tools`, `limits`; `schemas` of the tools in OpenAI's shape.
    """

    def __init__(
        self,
        engine: Engine | Endpoint,
        tools: Sequence[Tool] = (),
        *,
        system: str | None = None,
        settings: SamplingSettings | None = None,
        **limits: Any,
    ) -> None:
        """`engine`: our engine, or a server that speaks OpenAI's API. `system`: the system message before the task.
        `settings`: how text is drawn, greedily by default; fields that are not given are the model's defaults.

        `limits`: see `LoopLimits`. Raises `TinyslmError` for tools with equal names or with a schema that no grammar
        can express, and for wrong limits.
        """
        names = [tool.name for tool in tools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise TinyslmError(
                f"There are several tools {', '.join(twice)}.", "Rename all but one: tool.renamed(name)."
            )
        self.engine, self.tools, self.system = engine, tuple(tools), system
        self.limits = build_config(LoopLimits, limits, "the agent's limits")
        self.schemas = [tool.schema() for tool in tools]
        self.model: ChatModel
        settings, parallel = settings or GreedySampling(), self.limits.parallel
        if isinstance(engine, Engine):
            first = self.limits.call_first
            self.model = EngineChat(engine, self.schemas, settings, parallel=parallel, call_first=first)
        else:
            self.model = EndpointChat(engine, self.schemas, settings, parallel=parallel)

    def run(self, task: str | Sequence[Mapping[str, Any]]) -> AgentResult:
        """Do a task, or answer a conversation (messages with "role" and "content").

        Raises `TinyslmError` when the conversation does not fit the model's context.
        """
        *_, result = self.steps(task)
        assert isinstance(result, AgentResult)
        return result

    def steps(self, task: str | Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        """The same, event by event; the last one is the `AgentResult`."""
        return self.steps_with(task, ToolRunner(self.tools).run)

    def steps_with(self, task: str | Sequence[Mapping[str, Any]], run_calls: RunCalls) -> Iterator[Event]:
        """The same, with calls run by `run_calls(calls, seconds)`, as a replay does from what was recorded."""
        messages = [{"role": "user", "content": task}] if isinstance(task, str) else [dict(one) for one in task]
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]
        loop = ToolLoop(self.model, messages, self.limits, run_calls, has_tools=bool(self.tools))
        settings = self.model.settings.model_copy(update={"seed": loop.seed})
        trace = Trace(
            Start(
                engine=self.model.name,
                checksum=self.model.checksum,
                tools=self.schemas,
                settings=settings.model_dump(mode="json"),
                limits=self.limits.model_dump(mode="json"),
                messages=messages,
            )
        )
        yield Begun(trace)
        try:
            for event in loop.events():
                _record(event, trace)
                if isinstance(event, Ended):
                    yield AgentResult(event.text, trace, event.steps, event.finish)
                elif not isinstance(event, StepTaken):
                    yield event
        except Exception as error:
            trace.add(End(text=f"{type(error).__name__}: {error}", finish="error", steps=loop.steps))
            raise


def _record(event: LoopEvent, trace: Trace) -> None:
    """Add what happened to the trace."""
    match event:
        case StepTaken(step, reply, seed, usage, seconds):
            said = Said(
                step=step,
                text=reply.text,
                calls=reply.calls,
                finish=reply.finish,
                seed=seed,
                tokens=reply.tokens,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                seconds=seconds,
            )
            trace.add(said)
        case CallReturned(step, call, outcome):
            text, failed, seconds = outcome.text, outcome.failed, outcome.seconds
            trace.add(Returned(step=step, call=call, text=text, failed=failed, seconds=seconds))
        case Ended(text, finish, steps):
            trace.add(End(text=text, finish=finish, steps=steps))
