"""Generate answers to many prompts: in batches where the runtime supports them, otherwise one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.continuations import Reading
from tinyslm.evaluation.protocols import Generator, Scorer
from tinyslm.inference.request import Completion
from tinyslm.inference.settings import SamplingSettings

Progress = Callable[[str, int, int], None]
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class GenerationRequest:
    """A text to continue, or a conversation to answer, with the tools that the model may call."""

    prompt: str | Messages
    tools: Messages = ()


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


def answer_all(
    generator: Generator,
    reading: Reading,
    examples: Sequence[Any],
    settings: SamplingSettings,
    progress: Progress = lambda *_: None,
) -> Answers:
    """Answer the prompts of examples (`GeneratedExample`).

    Raises `TinyslmError` for features that the generator does not support, such as tools.
    """
    asked = [GenerationRequest(example.prompt(), tuple(example.tools())) for example in examples]
    if isinstance(generator, BatchGenerator):
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
        completions.append(generator.generate(fitting, settings))
        progress("answering", len(completions), len(asked))
    return Answers(completions, truncated)


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
