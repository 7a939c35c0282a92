"""Encode conversations with the model's chat template.

Models trained by tinyslm use ChatML, as many others do:

    <|im_start|>user
    How many legs has a beetle?<|im_end|>
    <|im_start|>assistant
    Six.<|im_end|>

Special tokens that the template writes are encoded as their ids. In a message, "<|im_end|>" is encoded as ordinary
text, so a message cannot end itself or begin another one. (Added tokens that are not special, such as the
"<tool_call>" of some models, are encoded as their ids everywhere.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.sandbox import Rendered, render
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import MESSAGE_END, MESSAGE_START

CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

TOGETHER, SHORT = 32, 1 << 15
"""The number of texts rendered per request, for conversations of at most `SHORT` characters; longer ones: one text."""

Messages = Sequence[Mapping[str, Any]]
Spans = list[tuple[int, int]]

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_REASONING = ("reasoning_content", "thinking", "reasoning")  # keys of a message's reasoning


class TurnsDiffer(TinyslmError):
    """The chat template renders a message differently when others follow it."""


def encode_chat(
    tokenizer: Tokenizer,
    messages: Messages,
    *,
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **extra: Any,
) -> list[int]:
    """Encode a conversation; each message has a "role", a "content", and other entries that the template reads.

    The ids equal those of transformers' `apply_chat_template`, unless messages contain names of special tokens.
    `add_generation_prompt` adds the beginning of the assistant's next message, which the model continues.
    `tools` (JSON schemas) and `extra` are passed to the template.

    Raises `TinyslmError` when the tokenizer has neither a chat template nor ChatML's tokens, and when the template
    fails.
    """
    template = _template(tokenizer)
    if template == CHATML and tokenizer.splits_alike:
        return _chatml(tokenizer, messages, add_generation_prompt=add_generation_prompt)[0]
    chat = _Chat(tokenizer, template, messages, tools, extra)
    return chat.encode(chat.texts([(len(messages), add_generation_prompt)])[0][0])[0]


def encode_chat_masked(
    tokenizer: Tokenizer,
    messages: Messages,
    *,
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[list[int], list[bool]]:
    """Encode a conversation. Returns the ids and the assistant mask: True for tokens that fine-tuning predicts.

    The mask covers the content of the assistant's messages and the token that ends each. In ChatML, this content
    always begins with a new token, so the ids differ from those of `encode_chat` if it begins with a newline.

    Raises `TinyslmError` as `encode_chat` does, and `TurnsDiffer` when the assistant's part cannot be found: the
    template does not mark it with `{% generation %}`, and renders the text before it differently without it.
    """
    template = _template(tokenizer)
    if template == CHATML and tokenizer.splits_alike:
        return _chatml(tokenizer, messages, add_generation_prompt=add_generation_prompt, masked=True)
    chat = _Chat(tokenizer, template, messages, tools, {})
    if _GENERATION.search(template):
        return chat.encode(*chat.texts([(len(messages), add_generation_prompt)])[0])
    return chat.encode(*chat.assistant_spans(add_generation_prompt))


def chat_tokenizer(tokenizer: Tokenizer, base: Path, notify: Callable[[str], None]) -> Tokenizer:
    """The tokenizer with a chat template: its own, or ChatML's, whose tokens are added if they are missing.

    base: the model's folder, for messages to `notify`.
    """
    if tokenizer.chat_template is not None:
        return tokenizer
    if {MESSAGE_START, MESSAGE_END} <= tokenizer.special_ids.keys():
        notify(f"{base} has no chat template; it gets that of ChatML.")
        return tokenizer.with_template(CHATML)
    notify(f"{base} has no chat template; it gets that of ChatML, with two new tokens.")
    return with_chatml(tokenizer)


def with_chatml(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with ChatML's chat template and tokens."""
    return tokenizer.with_special([MESSAGE_START, MESSAGE_END]).with_template(CHATML)


class _Chat:
    """A conversation whose messages hide the names of special tokens from the template."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str,
        messages: Messages,
        tools: Sequence[Mapping[str, Any]] | None,
        extra: Mapping[str, Any],
    ) -> None:
        names = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos, "unk_token": tokenizer.unk}
        self._tokenizer = tokenizer
        self._template = template
        self._names = {**names, "pad_token": tokenizer.pad}
        self._encoder = tokenizer.special_encoder
        self._hidden = self._encoder.hide([_plain(messages), tools, dict(extra)], others=template)

    def texts(self, cuts: Sequence[tuple[int, bool]]) -> list[Rendered]:
        """Render the first messages for each cut: (number of messages, add_generation_prompt); see `render`."""
        messages, tools, extra = self._hidden.values
        if not messages:
            raise TinyslmError("A chat template needs a conversation of at least one message.", "Give a message.")
        values = {name: value for name, value in {**self._names, **extra}.items() if value is not None}
        values |= {"tools": tools, "documents": None, "messages": messages}
        short = sum(len(str(message.get("content"))) for message in messages) <= SHORT
        size = TOGETHER if short else 1
        parts = (cuts[start : start + size] for start in range(0, len(cuts), size))
        return [text for part in parts for text in render(self._template, values, part)]

    def encode(self, text: str, spans: Sequence[tuple[int, int]] = ()) -> tuple[list[int], list[bool]]:
        """Encode a text. Returns the ids, and for each whether it begins inside one of the spans."""
        encoded = self._encoder.encode(text, self._hidden.texts)
        within = [any(first <= begin < last for first, last in spans) for begin in encoded.begins]
        return encoded.ids, within

    def assistant_spans(self, add_generation_prompt: bool) -> Rendered:
        """Render the conversation. Returns the text, and the spans of the assistant's messages and their end tokens."""
        messages = self._hidden.values[0]
        ends = [name for name, token in self._tokenizer.special_ids.items() if token in self._tokenizer.stop_ids]
        answers = [number for number, message in enumerate(messages) if message.get("role") == "assistant"]
        if answers[:1] == [0]:
            raise TinyslmError(
                "The conversation begins with the assistant, so the beginning of its words cannot be found.",
                "Begin with a message of the system or the user.",
            )
        cuts = [cut for number in answers for cut in ((number, True), (number + 1, False))]
        (text, _), *parts = self.texts([(len(messages), add_generation_prompt), *cuts])
        spans = []
        for number, (before, _), (after, _) in zip(answers, parts[::2], parts[1::2], strict=True):
            added = after[len(before) :]
            end = min((added.find(name) + len(name) for name in ends if name in added), default=len(added))
            end += len(before)
            if not after.startswith(before) or not text.startswith(after[:end]):
                raise TurnsDiffer(
                    "The chat template does not show which tokens are the assistant's: its text up to message "
                    f"{number + 1} depends on later messages.",
                    "Use a template that marks them with {% generation %}, or one that writes each message by itself.",
                )
            spans.append((len(before), end))
        return text, spans


def _plain(messages: Messages) -> list[dict[str, Any]]:
    """The messages as transformers passes them to templates: no entries that are None, reasoning under both keys."""
    plain = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise TinyslmError(
                f"A message of the conversation is {message!r}.", 'Give messages with "role" and "content".'
            )
        entries = {key: value for key, value in message.items() if value is not None}
        reasoning = next((entries[name] for name in _REASONING if name in entries), None)
        if reasoning is not None:
            entries = {"thinking": reasoning, **entries, "reasoning_content": reasoning}
        plain.append(entries)
    return plain


def _chatml(
    tokenizer: Tokenizer, messages: Messages, *, add_generation_prompt: bool, masked: bool = False
) -> tuple[list[int], list[bool]]:
    """Encode a conversation in ChatML without rendering the template. Returns the ids and the assistant mask.

    masked: the assistant's content begins with a new token, as in generated text; otherwise the mask is False.
    """
    start, end = (tokenizer.special_ids[name] for name in (MESSAGE_START, MESSAGE_END))
    newline = tokenizer.encode("\n")
    ids: list[int] = []
    assistant: list[bool] = []
    for message in messages:
        role, content = _role_and_content(message)
        learned = masked and role == "assistant"
        header = [start, *tokenizer.encode(f"{role}\n" if learned else f"{role}\n{content}")]
        body = [*(tokenizer.encode(content) if learned else []), end]
        ids += header + body + newline
        assistant += [False] * len(header) + [learned] * len(body) + [False] * len(newline)
    if add_generation_prompt:
        header = [start, *tokenizer.encode("assistant\n")]
        ids += header
        assistant += [False] * len(header)
    return ids, assistant


def _role_and_content(message: Mapping[str, Any]) -> tuple[str, str]:
    role, content = (message.get(name) if isinstance(message, Mapping) else None for name in ("role", "content"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise TinyslmError(
            f"A message of the conversation has no text as its role or content: {str(message)[:80]!r}.",
            'Give messages with "role" and "content", both of them text.',
        )
    return role, content


def _template(tokenizer: Tokenizer) -> str:
    """The tokenizer's chat template, or ChatML's if it has only the tokens. Raises `TinyslmError` without either."""
    special = tokenizer.special_ids
    if tokenizer.chat_template is not None and tokenizer.chat_template != CHATML:
        return tokenizer.chat_template
    if MESSAGE_START not in special or MESSAGE_END not in special:
        raise TinyslmError(
            f"This tokenizer cannot write a conversation: it has no chat template, and no tokens {MESSAGE_START} and "
            f"{MESSAGE_END}.",
            "Use a tokenizer that tinyslm trained, or one of a chat model.",
        )
    return CHATML
