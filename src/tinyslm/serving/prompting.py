"""From a body to the engine's request: messages as templates read them, sampling, grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.errors import bad_request
from tinyslm.serving.settings import ServerSettings
from tinyslm.serving.shapes.body import Drawn, Sampled
from tinyslm.serving.shapes.chat import ContentPart, Message
from tinyslm.tokenizer.tokenizer import Tokenizer

COLDEST = 1e-3
"""Below this temperature, the likeliest token has all of the probability anyway."""

_ROLES = {"developer": "system"}


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates read them: text as one piece, arguments of calls as objects."""
    return [_template_message(message, place) for place, message in enumerate(messages)]


def sampling(body: Sampled, max_tokens: int) -> SamplingSettings:
    """How the answer is drawn."""
    extra: dict[str, Any] = {}
    if isinstance(body, Drawn):
        extra = {
            "frequency_penalty": body.frequency_penalty,
            "presence_penalty": body.presence_penalty,
            "seed": None if body.seed is None else body.seed % 2**63,
            "stop": body.stops,
        }
    return SamplingSettings(
        max_tokens=max_tokens,
        temperature=body.temperature if body.temperature >= COLDEST else 0,
        top_k=max(0, body.top_k),
        top_p=body.top_p,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        **extra,
    )


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
        found["tool_calls"] = [
            {
                "id": call.id or "",
                "type": "function",
                "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
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


def _arguments(text: str) -> Any:
    """The arguments of a call in the past, as an object where they are one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text
