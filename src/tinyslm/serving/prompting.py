"""From a body to the engine's request: messages as templates read them, sampling, grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.errors import bad_request
from tinyslm.serving.formats import grammar_of, kept_grammar
from tinyslm.serving.models import Served
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.shapes.body import Drawn, Part, Sampled, TextFormat
from tinyslm.serving.shapes.chat import ContentPart, Message, Tool
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import MESSAGE_END, MESSAGE_START

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar

COLDEST = 1e-3
"""Below this temperature, the likeliest token has all of the probability anyway."""

CHARACTERS = 32
"""Of a prompt, for each token of the context: more are not encoded, as they do not fit (tokens have about four)."""

_ROLES = {"developer": "system"}


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as plain values, with their text as one piece."""
    return [_template_message(message, place) for place, message in enumerate(messages)]


def conversation_ids(messages: Sequence[Message], tools: Sequence[Tool], engine: Engine) -> tuple[int, ...]:
    """The ids of a conversation up to where the model is to answer. Raises `ApiError` where it cannot be written."""
    if not can_chat(engine.tokenizer):
        raise bad_request(
            "This model has no chat template, so that it cannot take messages: send it a prompt at /v1/completions.",
            "messages",
            "no_chat_template",
        )
    plain, listed = template_messages(messages), plain_tools(tools)
    check_characters(json.dumps([plain, listed], ensure_ascii=False), engine, "messages")
    return engine.chat_ids(plain, listed or None)


def conversation_grammar(
    tools: Sequence[Tool],
    choice: str,
    parallel: bool,
    form: Part | None,
    served: Served,
    *,
    param: str = "response_format",
) -> Grammar | None:
    """What an answer in a conversation must look like: calls of tools, or a response format; `None`: any text.

    `param`: the field that `form` is from. Raises `ApiError` for what cannot be followed.
    """
    if not tools or choice == "none":
        return grammar_of(form, served, param)
    if choice == "auto" and form is not None and not isinstance(form, TextFormat):
        raise bad_request(
            "A format of the answer and tools together need a tool_choice of required, none, or a tool's name.",
            "tool_choice",
        )
    from tinyslm.inference.tool_calls import tools_grammar

    listed, tokenizer = plain_tools(tools), served.engine.tokenizer
    key = f"tools {choice} {parallel} {json.dumps(listed)}"
    return kept_grammar(served, key, lambda: tools_grammar(listed, choice, parallel, tokenizer), "tools")


def plain_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as templates and grammars read them."""
    return [tool.model_dump(exclude_none=True) for tool in tools]


def prompt_ids(text: str, engine: Engine, param: str) -> tuple[int, ...]:
    """The ids of a text to go on from; raises `ApiError` for one that is far too long."""
    check_characters(text, engine, param)
    return engine.prompt_ids(text)


def check_characters(text: str, engine: Engine, param: str) -> None:
    """Raise `ApiError` for a text so long that encoding it, only to find too many tokens, would take its time."""
    most = CHARACTERS * max(engine.context, 1024)
    if len(text) > most:
        raise bad_request(
            f"The text has {len(text):,} characters; {most:,} are possible for the {engine.context:,} tokens that the "
            "model reads.",
            param,
            "context_length_exceeded",
        )


def check_ids(ids: Sequence[int], tokenizer: Tokenizer, param: str) -> tuple[int, ...]:
    """Ids that a client sent; raises `ApiError` when one is no token of the model."""
    wrong = next((token for token in ids if token >= tokenizer.vocab_size), None)
    if wrong is not None:
        raise bad_request(f"{wrong} is no token: ids go from 0 to {tokenizer.vocab_size - 1}.", param)
    return tuple(ids)


def sampling(body: Sampled, engine: Engine, max_tokens: int | None = None) -> SamplingSettings:
    """The sampling settings of an answer: the body's, and the model's defaults for the others."""
    given: dict[str, Any] = {
        name: value
        for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        if (value := getattr(body, name)) is not None
    }
    if body.temperature is not None and body.temperature < COLDEST:
        given["temperature"] = 0.0
    if body.top_k is not None:
        given["top_k"] = max(0, body.top_k)
    if isinstance(body, Drawn):
        given |= {
            "frequency_penalty": body.frequency_penalty,
            "presence_penalty": body.presence_penalty,
            "seed": None if body.seed is None else body.seed % 2**63,
            "stop": body.stops,
        }
    if max_tokens is not None:
        given["max_tokens"] = max_tokens
    return engine.with_defaults(SamplingSettings(**given))


def answer_tokens(asked: int | None, prompt: int, context: int, settings: ServerSettings) -> int:
    """How many tokens an answer may have; raises `ApiError` for a prompt that is too long."""
    longest = min(settings.max_prompt or context - 1, context - 1)
    if prompt > longest:
        raise bad_request(
            f"The prompt has {prompt} tokens; {longest} are possible here.", code="context_length_exceeded"
        )
    if asked and settings.max_answer and asked > settings.max_answer:
        raise bad_request(
            f"{asked} tokens of answer are too many for this server: it gives at most {settings.max_answer}.",
            "max_tokens",
        )
    return min(asked or settings.max_answer or context, context - prompt)


def bias(given: Mapping[str, float], tokenizer: Tokenizer) -> dict[int, float]:
    """`logit_bias` by token id; raises `ApiError` for what is no token of the model."""
    found = {}
    for name, value in given.items():
        if not name.isdecimal() or int(name[:10]) >= tokenizer.vocab_size or len(name) > 10:
            raise bad_request(f"{name[:40]!r} is no token: ids go from 0 to {tokenizer.vocab_size - 1}.", "logit_bias")
        found[int(name)] = max(-100.0, min(100.0, value))
    return found


def _template_message(message: Message, place: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "role": _ROLES.get(message.role, message.role),
        "content": content_text(message.content, f"messages.{place}.content"),
    }
    if message.name:
        found["name"] = message.name
    if message.reasoning_content:
        found["reasoning_content"] = message.reasoning_content
    if message.tool_call_id:
        found["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        found["tool_calls"] = [{"id": "", **call.model_dump(exclude_none=True)} for call in message.tool_calls]
    return found


def content_text(content: str | Sequence[ContentPart] | None, param: str) -> str:
    """The text of a message; its parts follow each other without anything between."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        if part.type not in ("text", "input_text", "output_text", "refusal"):
            raise bad_request(f"Parts of type {part.type[:40]!r} cannot be read: these models read text.", param)
        texts.append(part.text or part.refusal or "")
    return "".join(texts)


def can_chat(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer can write a conversation: it has a chat template, or ChatML's tokens."""
    return tokenizer.chat_template is not None or {MESSAGE_START, MESSAGE_END} <= set(tokenizer.special_ids)
