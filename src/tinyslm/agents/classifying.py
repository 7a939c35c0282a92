"""Questions to a model, and the choice among labels by how probable it finds each of them as its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine
from tinyslm.inference.generation import Generation
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.tokenizer.vocabulary import MESSAGE_START

QUESTION = "Which of these labels fits the text?"


@dataclass(frozen=True)
class Scored:
    """A label; logprob: of the model's answer beginning with it. score: its share among all labels; they sum to 1."""

    label: str
    logprob: float
    score: float


def classify(engine: Engine, text: str, labels: Sequence[str], question: str = QUESTION) -> list[Scored]:
    """The labels, the likeliest one first. Nothing is drawn, so that the same text always gives the same scores.

    The model is asked the question with the text and the labels, as a chat where it has the tokens for one. The score
    of a label is the probability of all its tokens, so that long labels have less; labels of like length compare best.

    Raises `TinyslmError` for fewer than two labels, for equal or empty ones, and for a text that is too long.
    """
    if len(set(labels)) != len(labels) or len(labels) < 2 or not all(label.strip() for label in labels):
        raise TinyslmError(f"The labels are {list(labels)!r:.200}.", "Give two or more different ones, none empty.")
    generations = [_reading(engine, text, labels, question, label) for label in labels]
    logprobs = [sum(score.logprob for score in one.whole()[0].scores) for one in generations]
    best = max(logprobs)
    total = sum(math.exp(one - best) for one in logprobs)
    scored = [
        Scored(label, logprob, math.exp(logprob - best) / total)
        for label, logprob in zip(labels, logprobs, strict=True)
    ]
    return sorted(scored, key=lambda one: -one.logprob)


def _reading(engine: Engine, text: str, labels: Sequence[str], question: str, label: str) -> Generation:
    """The model reads one label as its answer: a grammar leaves it nothing else. The prompt is in the cache then."""
    listed = "\n".join(f"- {one}" for one in labels)
    asked = f"{question}\n{listed}\nAnswer with one label only.\n\nText:\n{text}"
    settings = SamplingSettings(max_tokens=2 * len(label.encode()) + 1, temperature=0.0)
    grammar = Grammar.choices([label], engine.tokenizer)
    return engine.submit(Request(question_ids(engine, asked), settings, grammar=grammar, logprobs=0, continues=False))


def question_ids(engine: Engine, question: str) -> tuple[int, ...]:
    """The ids of a question to answer: as a chat where the model has the tokens for one, else as a text above it."""
    tokenizer = engine.tokenizer
    if tokenizer.chat_template is not None or MESSAGE_START in tokenizer.special_ids:
        return engine.chat_ids([{"role": "user", "content": question}])
    return engine.prompt_ids(f"{question}\n\nAnswer:\n")
