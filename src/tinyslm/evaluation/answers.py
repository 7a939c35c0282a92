"""What a model writes for many prompts: in one batch where its program can, else one after another."""

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
class Asked:
    """A text to continue, or a conversation to answer with the tools that are offered."""

    prompt: str | Messages
    tools: Messages = ()


@dataclass(frozen=True)
class Answers:
    """Completions in the order of the prompts. truncated: prompts whose beginning did not fit the context."""

    completions: Sequence[Completion]
    truncated: int = 0
    notes: Sequence[str] = ()


@runtime_checkable
class BatchGenerator(Protocol):
    """A `Generator` that answers many prompts together, and knows tools."""

    def answer_many(
        self, asked: Sequence[Asked], reading: Reading, settings: SamplingSettings, progress: Progress
    ) -> Answers:
        """The answers. Raises `TinyslmError` for what the model or the program does not have."""


def answer_all(
    generator: Generator,
    reading: Reading,
    examples: Sequence[Any],
    settings: SamplingSettings,
    progress: Progress = lambda *_: None,
) -> Answers:
    """Answers to the prompts of examples (`GeneratedExample`). Raises `TinyslmError` for what cannot be answered."""
    asked = [Asked(example.prompt(), tuple(example.tools())) for example in examples]
    if isinstance(generator, BatchGenerator):
        return generator.answer_many(asked, reading, settings, progress)
    completions, truncated = [], 0
    for one in asked:
        if one.tools:
            raise TinyslmError("No tools are taken here.", "Evaluate tool calls on a model folder or an endpoint.")
        ids = encode_prompt(generator, reading, one.prompt)
        fitting = fit(ids, reading, settings.max_tokens)
        truncated += fitting != ids
        completions.append(generator.generate(fitting, settings))
        progress("answering", len(completions), len(asked))
    return Answers(completions, truncated)


def encode_prompt(scorer: Any, reading: Reading, prompt: str | Messages) -> tuple[int, ...]:
    """The ids of a prompt. A conversation without a chat template becomes a text: its messages, and "Answer:"."""
    if not isinstance(prompt, str):
        found = scorer.encode_chat(prompt)
        if found is not None:
            return tuple(found)
        prompt = plain_chat(prompt)
    encoder: Scorer = scorer
    return (*reading.begin, *encoder.encode(prompt))


def plain_chat(messages: Messages) -> str:
    """A conversation for a model that knows none."""
    return "\n\n".join(str(one["content"]) for one in messages) + "\n\nAnswer:"


def fit(ids: tuple[int, ...], reading: Reading, max_tokens: int) -> tuple[int, ...]:
    """A prompt whose beginning is cut so that an answer fits: of `max_tokens`, or of half the context."""
    room = max(reading.room - max_tokens, reading.room // 2, 1)
    return ids if len(ids) <= room else ids[-room:]
