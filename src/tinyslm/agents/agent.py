"""The agent: a model that calls tools until it can answer.

Each step, the model either answers or calls tools; what these give is put before it for the next step. Its calls follow
a grammar made of the tools' schemas, so that a malformed call, or one of a tool that is not listed, cannot be written
at all. What tools return is data: it stands in messages of their own, and nothing in it can widen that grammar.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tinyslm.agents.conversation import Conversation
from tinyslm.agents.course import Choice, Course, Finish
from tinyslm.agents.fingerprint import fingerprint
from tinyslm.agents.limits import AgentLimits, AgentSampling
from tinyslm.agents.listening import Heard, Listener
from tinyslm.agents.running import Call, Outcome, ToolRunner
from tinyslm.agents.tool import Tool
from tinyslm.agents.trace import End, Returned, Said, Start, ToolCall, Trace
from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tool_calls import tools_grammar, without_result_tags
from tinyslm.inference.vetting import untrusted_grammars

REPEATED = "This call was made just before; its result is above. Use it, or answer."
CUT_OFF = "Your call was cut off, as it was longer than {} tokens. Make it shorter, or answer."


@dataclass(frozen=True)
class Begun:
    """The run has begun; what happens is added to its trace."""

    trace: Trace


@dataclass(frozen=True)
class TextSaid:
    """A piece of what the model says."""

    step: int
    text: str


@dataclass(frozen=True)
class CallMade:
    """The model called a tool."""

    step: int
    call: Call


@dataclass(frozen=True)
class CallReturned:
    """A call has ended."""

    step: int
    call: Call
    outcome: Outcome


@dataclass(frozen=True)
class AgentResult:
    """The end of a run.

    text: the answer. steps: how many the model took. finish: "answer"; or what forced or cut it: "steps" (the step
    limit), "repeats" (the same calls again and again), "time" (the time limit), "length" (`max_tokens`, or a full
    context).
    """

    text: str
    trace: Trace
    steps: int
    finish: Finish


Event = Begun | TextSaid | CallMade | CallReturned | AgentResult

RunCalls = Callable[[Sequence[Call], float], list[Outcome]]
"""Runs calls at the same time, each for at most so many seconds."""


class Agent:
    """A model and the tools that it may call."""

    def __init__(
        self,
        engine: Engine,
        tools: Sequence[Tool] = (),
        *,
        system: str | None = None,
        settings: SamplingSettings | None = None,
        **limits: Any,
    ) -> None:
        """`system`: the system message before the task. `settings`: how text is drawn, greedily by default; fields
        that are not given are the model's defaults.

        `limits`: see `AgentLimits`. Raises `TinyslmError` for tools with equal names or with a schema that no grammar
        can express, and for wrong limits.
        """
        names = [tool.name for tool in tools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise TinyslmError(
                f"There are several tools {', '.join(twice)}.", "Rename all but one: tool.renamed(name)."
            )
        self.engine, self.tools, self.system = engine, tuple(tools), system
        self.settings = engine.with_defaults(settings or AgentSampling())
        self.limits = build_config(AgentLimits, limits, "the agent's limits")
        self.schemas = [tool.schema() for tool in tools]
        self._grammars = {choice: self._compiled(choice) for choice in ("auto", "required")}

    def run(self, task: str | Sequence[Mapping[str, Any]]) -> AgentResult:
        """Do a task, or answer a conversation (messages with "role" and "content").

        Raises `TinyslmError` when the conversation does not fit the model's context.
        """
        *_, result = self.steps(task)
        assert isinstance(result, AgentResult)
        return result

    def steps(self, task: str | Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        """The same, event by event; the last one is the `AgentResult`."""
        runner = ToolRunner(self.tools)
        return self.steps_with(task, runner.run)

    def steps_with(self, task: str | Sequence[Mapping[str, Any]], run_calls: RunCalls) -> Iterator[Event]:
        """The same, with calls run by `run_calls(calls, seconds)`, as a replay does from what was recorded."""
        messages = [{"role": "user", "content": task}] if isinstance(task, str) else [dict(one) for one in task]
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]
        yield from _Run(self, messages, run_calls).events()

    @cached_property
    def checksum(self) -> str:
        """Which weights the engine has, where that is known."""
        return fingerprint(self.engine)

    def grammar(self, choice: Choice) -> Grammar | None:
        """What the model may write in a step; `None`: whatever it likes, as nothing in it is taken for a call."""
        return self._grammars.get(choice)

    def _compiled(self, choice: Choice) -> Grammar | None:
        if not self.tools or (choice == "required" and not self.limits.call_first):
            return None
        with untrusted_grammars():  # tools of MCP servers bring schemas of their own
            return tools_grammar(self.schemas, choice, parallel=self.limits.parallel, tokenizer=self.engine.tokenizer)


class _Run:
    """One run: the conversation, how far it has got, and its trace."""

    def __init__(self, agent: Agent, messages: list[dict[str, Any]], run_calls: RunCalls) -> None:
        self._agent, self._run_calls = agent, run_calls
        settings, limits = agent.settings, agent.limits
        self._seed = secrets.randbits(48) if settings.seed is None else settings.seed
        self._conversation = Conversation(agent.engine, agent.schemas, messages, limits.result_tokens)
        self._course = Course(limits.max_steps, call_first=limits.call_first and bool(agent.tools))
        self._deadline = time.monotonic() + (limits.time_limit or float("inf"))
        self._calls = 0
        self.trace = Trace(
            Start(
                engine=agent.engine.name,
                checksum=agent.checksum,
                tools=agent.schemas,
                settings=settings.model_copy(update={"seed": self._seed}).model_dump(mode="json"),
                limits=limits.model_dump(mode="json"),
                messages=messages,
            )
        )

    def events(self) -> Iterator[Event]:
        """What happens; the trace has it all, even where something goes wrong."""
        yield Begun(self.trace)
        try:
            yield from self._steps()
        except Exception as error:
            self.trace.add(End(text=f"{type(error).__name__}: {error}", finish="error", steps=self._course.step))
            raise

    def _steps(self) -> Iterator[Event]:
        """Steps until one is an answer."""
        while True:
            choice = self._course.advance()
            heard = yield from self._listen(self._agent.grammar(choice))
            may_go_on = choice != "none" and self._left > 0 and heard.finish != "cancelled"
            if heard.calls and may_go_on:
                yield from self._call(heard)
            elif heard.broken and may_go_on:
                self._conversation.said(heard.text, [])
                self._conversation.remark(CUT_OFF.format(heard.tokens))
            else:
                yield self._end(heard)
                return

    def _listen(self, grammar: Grammar | None) -> Generator[Event, None, Heard]:
        """One step of the model."""
        step, started = self._course.step, time.monotonic()
        seed = (self._seed + step - 1) % 2**63
        settings = self._agent.settings.model_copy(update={"seed": seed})
        ids = self._conversation.ids(settings.max_tokens)
        generation = self._agent.engine.submit(Request(ids, settings, grammar=grammar, continues=False))
        listener = Listener(self._calls + 1)
        for piece in generation:
            if self._left <= 0:
                generation.cancel()
            for text in listener.push(piece):
                yield TextSaid(step, text)
        heard, usage = listener.heard, generation.usage
        self.trace.add(
            Said(
                step=step,
                text=heard.text,
                calls=[_recorded(call) for call in heard.calls],
                finish=heard.finish,
                seed=seed,
                tokens=heard.tokens,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                seconds=time.monotonic() - started,
            )
        )
        return heard

    def _call(self, heard: Heard) -> Iterator[Event]:
        """Run the calls of one step side by side, without those that were just made."""
        step, calls = self._course.step, heard.calls
        self._calls += len(calls)
        self._conversation.said(heard.text, calls)
        for call in calls:
            yield CallMade(step, call)
        again = self._course.repeated(calls)
        new = [call for call, repeated in zip(calls, again, strict=True) if not repeated]
        ran = iter(self._run_calls(new, min(self._agent.limits.tool_timeout, max(0.0, self._left))))
        for call, repeated in zip(calls, again, strict=True):
            outcome = Outcome(REPEATED, failed=True) if repeated else next(ran)
            self._conversation.returned(call, outcome)
            record = Returned(
                step=step, call=_recorded(call), text=outcome.text, failed=outcome.failed, seconds=outcome.seconds
            )
            self.trace.add(record)
            yield CallReturned(step, call, outcome)

    def _end(self, heard: Heard) -> AgentResult:
        finish: Finish = "answer"
        if self._left <= 0 or heard.finish == "cancelled":
            finish = "time"
        elif self._course.forced and self._agent.tools:
            finish = self._course.forced
        elif heard.finish == "length":
            finish = "length"
        text, steps = without_result_tags(heard.text), self._course.step
        self.trace.add(End(text=text, finish=finish, steps=steps))
        return AgentResult(text, self.trace, steps, finish)

    @property
    def _left(self) -> float:
        """Seconds until the time limit."""
        return self._deadline - time.monotonic()


def _recorded(call: Call) -> ToolCall:
    return ToolCall(id=call.id, name=call.name, arguments=dict(call.arguments))
