"""Asking a model one question."""

from __future__ import annotations

from tinyslm.inference.engine import Engine
from tinyslm.tokenizer.vocabulary import MESSAGE_START


def question_ids(engine: Engine, question: str) -> tuple[int, ...]:
    """The ids of a question to answer: as a chat where the model has the tokens for one, else as a text above it."""
    tokenizer = engine.tokenizer
    if tokenizer.chat_template is not None or MESSAGE_START in tokenizer.special_ids:
        return engine.chat_ids([{"role": "user", "content": question}])
    return engine.prompt_ids(f"{question}\n\nAnswer:\n")
