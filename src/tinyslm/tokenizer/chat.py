"""Conversations as tokens, in the ChatML form that chat models of many makers share.

    <|im_start|>user
    How many legs has a beetle?<|im_end|>
    <|im_start|>assistant
    Six.<|im_end|>

The special tokens are put in as ids, never as text: a message that contains "<|im_end|>" stays a message with those
letters in it, so that nobody can end a message, or begin one in another's name, by writing so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.vocabulary import MESSAGE_END, MESSAGE_START

if TYPE_CHECKING:
    from tinyslm.tokenizer.tokenizer import Tokenizer

CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False
) -> list[int]:
    """Ids of a conversation; each message has a "role" and a "content".

    `add_generation_prompt` adds the beginning of the assistant's next message, for the model to go on from there.
    """
    return encode_chat_masked(tokenizer, messages, add_generation_prompt=add_generation_prompt)[0]


def encode_chat_masked(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False
) -> tuple[list[int], list[bool]]:
    """Ids of a conversation, and for each whether the assistant says it: its contents and their `<|im_end|>`.

    These are the tokens that fine-tuning learns to predict; the other ones are only read.
    """
    start, end = _marks(tokenizer)
    newline = tokenizer.encode("\n")
    ids: list[int] = []
    spoken: list[bool] = []
    for message in messages:
        before = [start, *tokenizer.encode(message["role"] + "\n")]
        said = [*tokenizer.encode(message["content"]), end]
        ids += before + said + newline
        spoken += [False] * len(before) + [message["role"] == "assistant"] * len(said) + [False] * len(newline)
    if add_generation_prompt:
        before = [start, *tokenizer.encode("assistant\n")]
        ids += before
        spoken += [False] * len(before)
    return ids, spoken


def _marks(tokenizer: Tokenizer) -> tuple[int, int]:
    """Ids of the tokens that open and close a message."""
    special = tokenizer.special_ids
    if MESSAGE_START not in special or MESSAGE_END not in special:
        raise TinyslmError(
            f"This tokenizer has no {MESSAGE_START} and {MESSAGE_END} tokens, so it cannot write a conversation.",
            "Use a tokenizer that tinyslm trained, or one of a ChatML model.",
        )
    return special[MESSAGE_START], special[MESSAGE_END]
