"""From a body to the engine's request: token ids, sampling settings, biases, and their limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.constraints import plain_tools
from tinyslm.serving.errors import bad_request
from tinyslm.serving.schemas.chat import Message, Tool
from tinyslm.serving.schemas.common import ChoicesBody, GenerationBody
from tinyslm.serving.settings import ServerSettings
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import MESSAGE_END, MESSAGE_START

MIN_TEMPERATURE = 1e-3
"""Below this temperature, the likeliest token has all of the probability."""

CHARACTERS_PER_TOKEN = 32
"""Longer texts, relative to the context, are not encoded: they do not fit (tokens have about four characters)."""

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""Settings of a body that have defaults of the model."""


def check_choices(n: int, settings: ServerSettings) -> None:
    if n > settings.max_choices:
        raise bad_request(f"n is {n}. Give at most {settings.max_choices}.", "n")


def conversation_ids(messages: Sequence[Message], tools: Sequence[Tool], engine: Engine) -> tuple[int, ...]:
    """The ids of a conversation up to where the model answers. Raises `ApiError` if it cannot be encoded."""
    tokenizer = engine.tokenizer
    if tokenizer.chat_template is None and not {MESSAGE_START, MESSAGE_END} <= set(tokenizer.special_ids):
        raise bad_request(
            "This model has no chat template, so it cannot read messages: send a prompt to /v1/completions.",
            "messages",
            "no_chat_template",
        )
    plain, listed = [message.for_template() for message in messages], plain_tools(tools)
    _check_length(json.dumps([plain, listed], ensure_ascii=False), engine, "messages")
    return engine.chat_ids(plain, listed or None)


def encoded(text: str | Sequence[int], engine: Engine, param: str) -> tuple[int, ...]:
    """The ids of a prompt, which may be ids already. Raises `ApiError` for a text that is far too long, or wrong ids.

    An empty prompt starts a new document.
    """
    if not text:
        return engine.prompt_ids("")
    if not isinstance(text, str):
        return check_ids(text, engine.tokenizer, param)
    _check_length(text, engine, param)
    return engine.prompt_ids(text)


def check_ids(ids: Sequence[int], tokenizer: Tokenizer, param: str) -> tuple[int, ...]:
    """The ids; raises `ApiError` if one is not a token of the model."""
    wrong = next((token for token in ids if token >= tokenizer.vocab_size), None)
    if wrong is not None:
        raise bad_request(f"There is no token {wrong}: ids go from 0 to {tokenizer.vocab_size - 1}.", param)
    return tuple(ids)


def sampling_settings(body: GenerationBody, engine: Engine, max_tokens: int | None = None) -> SamplingSettings:
    """The sampling settings of an answer: those of the body, and the model's defaults for the others."""
    given: dict[str, Any] = {name: getattr(body, name) for name in SAMPLING if getattr(body, name) is not None}
    if body.temperature is not None and body.temperature < MIN_TEMPERATURE:
        given["temperature"] = 0.0
    if body.top_k is not None:
        given["top_k"] = max(0, body.top_k)
    if isinstance(body, ChoicesBody):
        given |= {
            "frequency_penalty": body.frequency_penalty,
            "presence_penalty": body.presence_penalty,
            "seed": None if body.seed is None else body.seed % 2**63,
            "stop": body.stops,
        }
    if max_tokens is not None:
        given["max_tokens"] = max_tokens
    return engine.with_defaults(SamplingSettings(**given))


def answer_tokens(limit: int | None, prompt: int, context: int, settings: ServerSettings) -> int:
    """The maximum number of tokens of an answer. Raises `ApiError` for a prompt or a limit that is too large."""
    longest = min(settings.max_prompt or context - 1, context - 1)
    if prompt > longest:
        message = f"The prompt has {prompt} tokens. Give at most {longest}."
        raise bad_request(message, code="context_length_exceeded")
    if limit and settings.max_answer and limit > settings.max_answer:
        raise bad_request(f"This server gives answers of at most {settings.max_answer} tokens.", "max_tokens")
    return min(limit or settings.max_answer or context, context - prompt)


def logit_bias(given: Mapping[str, float], tokenizer: Tokenizer) -> dict[int, float]:
    """`logit_bias` by token id. Raises `ApiError` for a key that is not a token of the model."""
    for name in given:
        if not name.isdecimal() or len(name) > 10 or int(name) >= tokenizer.vocab_size:
            message = f"There is no token {name[:40]!r}: ids go from 0 to {tokenizer.vocab_size - 1}."
            raise bad_request(message, "logit_bias")
    return {int(name): max(-100.0, min(100.0, value)) for name, value in given.items()}


def _check_length(text: str, engine: Engine, param: str) -> None:
    """Raise `ApiError` for a text so long that encoding it, only to find too many tokens, would take long."""
    limit = CHARACTERS_PER_TOKEN * max(engine.context, 1024)
    if len(text) > limit:
        message = f"The text has {len(text):,} characters. Give at most {limit:,} for {engine.context:,} tokens."
        raise bad_request(message, param, "context_length_exceeded")
