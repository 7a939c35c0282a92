"""The tool-call loop: a model that calls tools until it answers.

Each step, the model either answers or calls tools; what these return is put before it for the next step. What tools
return is data: it stands in messages of their own, and nothing in it can widen what the model may call.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyslm.inference.call_stream import TextDelta
from tinyslm.inference.request import Finish as PieceFinish
from tinyslm.inference.request import Usage
from tinyslm.inference.tool_call_collector import ToolCallCollector
from tinyslm.inference.tools.chat import Answer, ChatModel, PromptTooLong
from tinyslm.inference.tools.policy import Choice, Finish, LoopLimits, StepPolicy
from tinyslm.inference.tools.running import Call, Outcome
from tinyslm.tokenizer.tool_calls import without_result_tags

REPEATED = "This call was made just before; its result is above. Use it, or answer."
CUT_OFF = "Your call was cut off, as it was longer than {} tokens. Make it shorter, or answer."
LEFT_OUT = "(left out, as the conversation has grown too long)"


@dataclass
class Reply:
    """What the model said in one step: its text without the calls, and the complete calls.

    broken: a call was begun that did not come to its end. tokens: how many it took. finish: as of a `Piece`.
    """

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    broken: bool = False
    tokens: int = 0
    finish: PieceFinish = ""


@dataclass(frozen=True)
class TextSaid:
    """A piece of what the model says."""

    step: int
    text: str


@dataclass(frozen=True)
class StepTaken:
    """The model has ended a step, which was drawn with `seed`; `seconds`: how long it took."""

    step: int
    reply: Reply
    seed: int
    usage: Usage
    seconds: float


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
class Ended:
    """The loop has ended.

    text: the answer. finish: "answer"; or what forced or cut it: "steps" (the step limit), "repeats" (the same calls
    again and again), "time" (the time limit), "length" (`max_tokens`, or a full context).
    """

    text: str
    finish: Finish
    steps: int


LoopEvent = TextSaid | StepTaken | CallMade | CallReturned | Ended

RunCalls = Callable[[Sequence[Call], float], list[Outcome]]
"""Runs calls at the same time, each for at most so many seconds."""


class ToolLoop:
    """One conversation with a model and its tools.

    Attributes: `messages`, with what was said, called and returned so far; `seed`: step `i` draws with `seed + i - 1`.
    """

    def __init__(
        self,
        model: ChatModel,
        messages: Sequence[Mapping[str, Any]],
        limits: LoopLimits,
        run_calls: RunCalls,
        *,
        has_tools: bool = True,
    ) -> None:
        self.messages = [dict(message) for message in messages]
        self.seed = secrets.randbits(48) if model.settings.seed is None else model.settings.seed
        self._model, self._limits, self._run_calls, self._has_tools = model, limits, run_calls, has_tools
        self._policy = StepPolicy(limits.max_steps, call_first=limits.call_first and has_tools)
        self._deadline = time.monotonic() + (limits.time_limit or float("inf"))
        self._calls = 0

    @property
    def steps(self) -> int:
        """Steps begun so far."""
        return self._policy.step

    def events(self) -> Iterator[LoopEvent]:
        """Take steps until one is an answer; the last event is `Ended`.

        Raises `PromptTooLong` when the conversation does not fit the context even without the results of tools.
        """
        while True:
            choice = self._policy.advance()
            reply = yield from self._reply(choice)
            may_go_on = choice != "none" and self._left > 0 and reply.finish != "cancelled"
            if reply.calls and may_go_on:
                yield from self._call(reply)
            elif reply.broken and may_go_on:
                self.messages.append({"role": "assistant", "content": reply.text})
                self.messages.append({"role": "user", "content": CUT_OFF.format(reply.tokens)})
            else:
                yield Ended(without_result_tags(reply.text), self._finish(reply), self.steps)
                return

    def _reply(self, choice: Choice) -> Generator[LoopEvent, None, Reply]:
        """One step of the model."""
        step, started = self.steps, time.monotonic()
        seed = (self.seed + step - 1) % 2**63
        answer = self._answer(choice, seed)
        collector = ToolCallCollector()
        for piece in answer:
            if self._left <= 0:
                answer.cancel()
            for event in collector.take(piece):
                if isinstance(event, TextDelta):
                    yield TextSaid(step, event.text)
        complete = (call for call in collector.calls if call.complete)
        calls = [
            Call(f"call_{number}", call.name, json.loads(call.arguments))
            for number, call in enumerate(complete, self._calls + 1)
        ]
        reply = Reply(collector.text, calls, collector.broken, collector.tokens, collector.finish)
        yield StepTaken(step, reply, seed, answer.usage, time.monotonic() - started)
        return reply

    def _answer(self, choice: Choice, seed: int) -> Answer:
        """Ask the model; where the conversation is too long, the oldest results of tools are left out."""
        settings = self._model.settings.model_copy(update={"seed": seed})
        while True:
            try:
                return self._model.chat(self.messages, settings, choice)
            except PromptTooLong:
                results = (one for one in self.messages if one["role"] == "tool" and one["content"] != LEFT_OUT)
                if (oldest := next(results, None)) is None:
                    raise
                oldest["content"] = LEFT_OUT

    def _call(self, reply: Reply) -> Iterator[LoopEvent]:
        """Run the calls of one step side by side, without those that were just made."""
        step, calls = self.steps, reply.calls
        self._calls += len(calls)
        listed = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in calls
        ]
        self.messages.append({"role": "assistant", "content": reply.text, "tool_calls": listed})
        for call in calls:
            yield CallMade(step, call)
        again = self._policy.repeated(calls)
        new = [call for call, repeated in zip(calls, again, strict=True) if not repeated]
        ran = iter(self._run_calls(new, min(self._limits.tool_timeout, max(0.0, self._left))))
        for call, repeated in zip(calls, again, strict=True):
            outcome = Outcome(REPEATED, failed=True) if repeated else next(ran)
            text = self._model.shorten(outcome.text, self._limits.result_tokens or self._model.result_tokens)
            content = f"Error: {text}" if outcome.failed else text
            self.messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content})
            yield CallReturned(step, call, outcome)

    def _finish(self, reply: Reply) -> Finish:
        if self._left <= 0 or reply.finish == "cancelled":
            return "time"
        if self._policy.forced and self._has_tools:
            return self._policy.forced
        return "length" if reply.finish == "length" else "answer"

    @property
    def _left(self) -> float:
        """Seconds until the time limit."""
        return self._deadline - time.monotonic()
