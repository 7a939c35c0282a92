"""Generate answers to many prompts: in batches where the runtime supports them, otherwise one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.protocols import Generator, Prompt, Scorer
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.request import Completion, Piece
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tool_call_collector import ToolCallCollector
from tinyslm.inference.tools.running import Call, ToolRunner
from tinyslm.inference.tools.tool import Tool
from tinyslm.tokenizer.tool_calls import without_result_tags

Progress = Callable[[str, int, int], None]
Messages = Sequence[Mapping[str, Any]]
MOST_STEPS = 8
"""Steps of a model that calls tools, until its answer."""
TOOL_SECONDS = 10.0
CONSTRAINTS_UNSUPPORTED = (
    "This runtime does not support constrained decoding.",
    "Evaluate a model folder or a GGUF file, or leave out --constrained.",
)


@dataclass(frozen=True)
class GenerationRequest:
    """A text to continue, or a conversation to answer, with the tools that the model may call.

    runs: those whose calls are executed, until the model answers. constraint: what the answer may look like.
    """

    prompt: str | Messages
    tools: Messages = ()
    runs: Sequence[Tool] = ()
    constraint: OutputConstraint | None = None


@dataclass(frozen=True)
class Answers:
    """Completions in the order of the prompts. truncated: how many prompts were cut on the left to fit the context."""

    completions: Sequence[Completion]
    truncated: int = 0
    notes: Sequence[str] = ()


@runtime_checkable
class BatchGenerator(Protocol):
    """A `Generator` that answers many prompts in batches and supports tools."""

    def answer_many(
        self, asked: Sequence[GenerationRequest], reading: Reading, settings: SamplingSettings, progress: Progress
    ) -> Answers:
        """Answer all requests, in their order. Raises `TinyslmError` for features that the runtime does not support."""


@runtime_checkable
class ConstrainedGenerator(Protocol):
    """A `Generator` that can enforce what an answer looks like."""

    def generate_constrained(
        self, prompt: Prompt, settings: SamplingSettings, constraint: OutputConstraint
    ) -> Completion:
        """See `Generator.generate`. Raises `TinyslmError` for constraints that the program does not support."""


def answer_all(
    generator: Generator,
    reading: Reading,
    examples: Sequence[Any],
    settings: SamplingSettings,
    progress: Progress = lambda *_: None,
    *,
    constrained: bool = False,
) -> Answers:
    """Answer the prompts of examples (`GeneratedExample`).

    constrained: enforce their constraints. Raises `TinyslmError` for features that the generator does not support, such
    as tools or constraints.
    """
    asked = [
        GenerationRequest(
            example.prompt(),
            tuple(example.tools()),
            getattr(example, "runs", ()),
            getattr(example, "constraint", None) if constrained else None,
        )
        for example in examples
    ]
    if isinstance(generator, BatchGenerator):
        if any(one.runs for one in asked):
            return answer_with_tools(generator, reading, asked, settings, progress)
        return generator.answer_many(asked, reading, settings, progress)
    completions, truncated = [], 0
    for one in asked:
        if one.tools:
            raise TinyslmError(
                "This runtime does not support tool calls.", "Evaluate tool calls on a model folder or an endpoint."
            )
        ids = encode_prompt(generator, reading, one.prompt)
        fitting = fit(ids, reading, settings.max_tokens)
        truncated += fitting != ids
        if not one.constraint:
            completions.append(generator.generate(fitting, settings))
        elif isinstance(generator, ConstrainedGenerator):
            completions.append(generator.generate_constrained(fitting, settings, one.constraint))
        else:
            raise TinyslmError(*CONSTRAINTS_UNSUPPORTED)
        progress("answering", len(completions), len(asked))
    return Answers(completions, truncated)


def answer_with_tools(
    generator: BatchGenerator,
    reading: Reading,
    asked: Sequence[GenerationRequest],
    settings: SamplingSettings,
    progress: Progress,
) -> Answers:
    """Answer conversations whose calls are executed: all of them step by step, until each has an answer.

    Each completion is the step without calls, with the tokens of all steps. If a conversation still has calls after
    `MOST_STEPS` steps, the text around the last calls is the answer.
    """
    talks: list[list[Mapping[str, Any]]] = [
        [{"role": "user", "content": one.prompt}] if isinstance(one.prompt, str) else list(one.prompt) for one in asked
    ]
    found: dict[int, Completion] = {}
    tokens, truncated, notes = [0] * len(asked), 0, set[str]()
    going_on = list(range(len(asked)))
    for _ in range(MOST_STEPS):
        requests = [replace(asked[number], prompt=talks[number]) for number in going_on]
        answers = generator.answer_many(requests, reading, settings, progress)
        notes |= set(answers.notes)
        truncated = max(truncated, answers.truncated)
        called: list[int] = []
        for number, completion in zip(going_on, answers.completions, strict=True):
            tokens[number] += completion.tokens
            said, more = _after_calls(completion, asked[number].runs)
            talks[number] += more
            found[number] = replace(completion, text=said, tokens=tokens[number])
            if more:
                called.append(number)
        if not (going_on := called):
            break
    return Answers([found[number] for number in range(len(asked))], truncated, tuple(sorted(notes)))


def _after_calls(completion: Completion, tools: Sequence[Tool]) -> tuple[str, list[Mapping[str, Any]]]:
    """The text around the calls of a completion, and the messages to add: the calls and their results, if any."""
    collector = ToolCallCollector()
    collector.take(Piece(0, completion.text, completion.tokens, completion.finish or "stop"))
    calls = [
        Call(f"call_{number}", call.name, json.loads(call.arguments))
        for number, call in enumerate((one for one in collector.calls if one.complete), 1)
    ]
    if not calls:
        return without_result_tags(collector.text), []
    listed = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
        for call in calls
    ]
    results = [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "name": call.name,
            "content": f"Error: {outcome.text}" if outcome.failed else outcome.text,
        }
        for call, outcome in zip(calls, ToolRunner(tools).run(calls, TOOL_SECONDS), strict=True)
    ]
    return collector.text, [{"role": "assistant", "content": collector.text, "tool_calls": listed}, *results]


def encode_prompt(scorer: Any, reading: Reading, prompt: str | Messages) -> tuple[int, ...]:
    """Encode a prompt. Without a chat template, a conversation becomes plain text: its messages, then "Answer:"."""
    if not isinstance(prompt, str):
        found = scorer.encode_chat(prompt)
        if found is not None:
            return tuple(found)
        prompt = plain_chat(prompt)
    encoder: Scorer = scorer
    return (*reading.prefix, *encoder.encode(prompt))


def plain_chat(messages: Messages) -> str:
    """A conversation as plain text, for a model without a chat template."""
    return "\n\n".join(str(one["content"]) for one in messages) + "\n\nAnswer:"


def fit(ids: tuple[int, ...], reading: Reading, max_tokens: int) -> tuple[int, ...]:
    """Cut a prompt on the left, to leave room in the context for `max_tokens`, or at most for half the context."""
    room = max(reading.max_length - max_tokens, reading.max_length // 2, 1)
    if len(ids) <= room:
        return ids
    start = len(reading.prefix) if ids[: len(reading.prefix)] == reading.prefix and len(reading.prefix) < room else 0
    return (*ids[:start], *ids[start - room :])
