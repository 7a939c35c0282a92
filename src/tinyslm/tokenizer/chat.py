"""Conversations as tokens, in the form that the model's chat template gives them.

Models made here use ChatML, which chat models of many makers share:

    <|im_start|>user
    How many legs has a beetle?<|im_end|>
    <|im_start|>assistant
    Six.<|im_end|>

Special tokens that the template writes become their ids. Those in a message stay text: one that contains "<|im_end|>"
stays a message with those letters in it, so that nobody can end a message, or begin one in another's name, by writing
so. (Added tokens that are not special, such as the "<tool_call>" of some models, are tokens wherever they stand.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

Messages = Sequence[Mapping[str, Any]]
Spans = list[tuple[int, int]]

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # names that templates know a message's reasoning by


def encode_chat(
    tokenizer: Tokenizer,
    messages: Messages,
    *,
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **extra: Any,
) -> list[int]:
    """Ids of a conversation; each message has a "role" and a "content", and what else the template reads.

    They are those of transformers' `apply_chat_template`, unless messages contain names of special tokens.
    `add_generation_prompt` adds the beginning of the assistant's next message, for the model to go on from there.
    `tools` (JSON schemas) and `extra` are for templates that read them.

    Raises `TinyslmError` when the tokenizer has no chat template and no ChatML tokens, or the template gives no text.
    """
    template = _template(tokenizer)
    if template == CHATML and tokenizer.splits_alike:
        return _chatml(tokenizer, messages, add_generation_prompt=add_generation_prompt)[0]
    chat = _Chat(tokenizer, template, messages, tools, extra)
    return chat.encode(chat.text(len(messages), add_generation_prompt)[0])[0]


def encode_chat_masked(
    tokenizer: Tokenizer, messages: Messages, *, add_generation_prompt: bool = False
) -> tuple[list[int], list[bool]]:
    """Ids of a conversation, and for each whether the assistant says it: its contents and the token that ends them.

    These are the tokens that fine-tuning learns to predict; the other ones are only read. In ChatML, where contents
    begin with line ends, ids differ from those of `encode_chat`: what is said begins with a token of its own.

    Raises `TinyslmError` as `encode_chat` does, and when the template does not show what the assistant says: it marks
    it neither with `{% generation %}`, nor by writing the same text before it whether it follows or not.
    """
    template = _template(tokenizer)
    if template == CHATML and tokenizer.splits_alike:
        return _chatml(tokenizer, messages, add_generation_prompt=add_generation_prompt, masked=True)
    chat = _Chat(tokenizer, template, messages, None, {})
    text, spans = chat.text(len(messages), add_generation_prompt)
    if not _GENERATION.search(template):
        spans = chat.spoken(text)
    return chat.encode(text, spans)


def render_chat(
    template: str,
    messages: Messages,
    *,
    add_generation_prompt: bool = False,
    bos_token: str | None = None,
    eos_token: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **extra: Any,
) -> str:
    """The text of a conversation, as transformers renders it.

    A template that is not our own is rendered in a process of its own, with limits on time and memory.
    Raises `TinyslmError` when it gives no text.
    """
    names = {"bos_token": bos_token, "eos_token": eos_token}
    return _render(template, _plain(messages), add_generation_prompt, {**names, "tools": tools, **extra})[0]


class _Chat:
    """One conversation and the template that writes it; names of special tokens in the messages are hidden."""

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

    def text(self, count: int, add_generation_prompt: bool) -> tuple[str, Spans]:
        """The text of the first `count` messages, and the spans of its `{% generation %}` blocks."""
        messages, tools, extra = self._hidden.values
        return _render(
            self._template, messages[:count], add_generation_prompt, {**self._names, "tools": tools, **extra}
        )

    def encode(self, text: str, spans: Spans = []) -> tuple[list[int], list[bool]]:  # noqa: B006  (never changed)
        """Ids of the text, and for each whether it begins in one of the spans."""
        encoded = self._encoder.encode(text, self._hidden.texts)
        within = [any(first <= begin < last for first, last in spans) for begin in encoded.begins]
        return encoded.ids, within

    def spoken(self, text: str) -> Spans:
        """What the assistant's messages add to the text before them, up to the token that ends them."""
        messages = self._hidden.values[0]
        ends = [name for name, token in self._tokenizer.special_ids.items() if token in self._tokenizer.stop_ids]
        spans = []
        for number, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            if number == 0:
                raise TinyslmError(
                    "The conversation begins with the assistant, so that nothing shows where its words begin.",
                    "Begin with a message of the system or the user.",
                )
            before = self.text(number, True)[0]
            after = self.text(number + 1, False)[0]
            said = after[len(before) :]
            end = min((said.find(name) + len(name) for name in ends if name in said), default=len(said))
            end += len(before)
            if not after.startswith(before) or not text.startswith(after[:end]):
                raise TinyslmError(
                    "The chat template does not show which tokens the assistant says: what it writes up to message "
                    f"{number + 1} depends on what follows.",
                    "Use a template that marks them with {% generation %}, or one that writes each message by itself.",
                )
            spans.append((len(before), end))
        return spans


def _render(template: str, messages: Any, add_generation_prompt: bool, values: Mapping[str, Any]) -> tuple[str, Spans]:
    from tinyslm.tokenizer import sandbox

    if not messages:
        raise TinyslmError("A chat template needs a conversation of at least one message.", "Give a message.")
    given = {name: value for name, value in values.items() if value is not None or name == "tools"}
    given = {**given, "messages": messages, "documents": None, "add_generation_prompt": add_generation_prompt}
    if template != CHATML:
        return sandbox.render_apart(template, given)
    from tinyslm.tokenizer.template import TemplateProblem, render

    try:
        return render(template, given).text, []
    except TemplateProblem as error:
        raise sandbox.problem(error.kind, str(error)) from None


def _plain(messages: Messages) -> list[dict[str, Any]]:
    """The messages as transformers gives them to templates: without entries that are None, reasoning by all names."""
    plain = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise TinyslmError(
                f"A message of the conversation is {message!r}.", 'Give messages with "role" and "content".'
            )
        entries = {key: value for key, value in message.items() if value is not None}
        thoughts = next((entries[name] for name in _THOUGHTS if name in entries), None)
        plain.append(entries if thoughts is None else {"thinking": thoughts, **entries, "reasoning_content": thoughts})
    return plain


def _chatml(
    tokenizer: Tokenizer, messages: Messages, *, add_generation_prompt: bool, masked: bool = False
) -> tuple[list[int], list[bool]]:
    """A conversation in ChatML: the same ids that the template would give, without rendering it.

    `masked`: what the assistant says begins with a token of its own, as when a model says it.
    """
    start, end = (tokenizer.special_ids[name] for name in (MESSAGE_START, MESSAGE_END))
    newline = tokenizer.encode("\n")
    ids: list[int] = []
    spoken: list[bool] = []
    for message in messages:
        role, content = _role_and_content(message)
        mine = masked and role == "assistant"
        before = [start, *tokenizer.encode(f"{role}\n" if mine else f"{role}\n{content}")]
        said = [*(tokenizer.encode(content) if mine else []), end]
        ids += before + said + newline
        spoken += [False] * len(before) + [mine] * len(said) + [False] * len(newline)
    if add_generation_prompt:
        before = [start, *tokenizer.encode("assistant\n")]
        ids += before
        spoken += [False] * len(before)
    return ids, spoken


def _role_and_content(message: Mapping[str, Any]) -> tuple[str, str]:
    role, content = (message.get(name) if isinstance(message, Mapping) else None for name in ("role", "content"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise TinyslmError(
            f"A message of the conversation has no text as its role or content: {str(message)[:80]!r}.",
            'Give messages with "role" and "content", both of them text.',
        )
    return role, content


def _template(tokenizer: Tokenizer) -> str:
    """The tokenizer's own template; ChatML where it has none, but the tokens for it."""
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
