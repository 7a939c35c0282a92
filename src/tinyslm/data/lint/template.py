"""Checks of the tokens of each conversation and of the loss mask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import Example
from tinyslm.data.lint.check import Check, Encoding, Examples, Hit

_MARKERS = re.compile(r"<[|｜][^<>|｜\s]{1,40}[|｜]>|<(?:start|end)_of_turn>")
"""Names in templates that look like special tokens. (Zephyr's "<|user|>" looks like one, but is text.)"""
BEGINNING = 40
"""Number of letters of a part to search for."""
SAMPLED = 64
"""Number of conversations to search for each part that a template may leave out."""


def _learned_runs(example: Example) -> list[np.ndarray]:
    """The ids of each run of learned tokens."""
    edges = np.flatnonzero(np.diff(example.learned, prepend=False, append=False))
    return [example.ids[start:end] for start, end in edges.reshape(-1, 2)]


def _rows(data: Examples, wrong: Callable[[Example, Encoding], str]) -> Iterator[Hit]:
    """A hit for each conversation with a faulty example. wrong: describes the fault of an example, "" for none."""
    if data.encoding is None:
        return
    for row, examples in data.encoding.examples.items():
        if fault := next(filter(None, (wrong(one, data.encoding) for one in examples)), ""):
            yield Hit(data.conversations[row].place, fault)


def _nothing(example: Example, encoding: Encoding) -> str:
    if not example.learned[1:].any():
        return "no token is learned"
    stops = list(encoding.tokenizer.stop_ids)
    empty = any(np.isin(run, stops).all() for run in _learned_runs(example))
    return "an answer has no learned token but the one that ends it" if empty else ""


def _endless(example: Example, encoding: Encoding) -> str:
    stops = encoding.tokenizer.stop_ids
    last = next((run[-1] for run in _learned_runs(example) if int(run[-1]) not in stops), None)
    return "" if last is None else f"an answer ends with {encoding.tokenizer.decode([int(last)])!r}"


def _long(example: Example, encoding: Encoding) -> str:
    count = len(example.ids) - 1
    return f"{count:,} tokens, of at most {encoding.context:,}" if count > encoding.context else ""


def _started_twice(example: Example, encoding: Encoding) -> str:
    bos, ids = encoding.tokenizer.bos_id, example.ids[:2].tolist()
    return f"it begins with {encoding.tokenizer.bos} twice" if ids == [bos, bos] else ""


def _failures(data: Examples) -> Iterator[Hit]:
    yield from data.encoding.failures if data.encoding else ()


def _unknown_markers(data: Examples) -> Iterator[Hit]:
    if data.encoding and data.encoding.tokenizer.chat_template:
        tokenizer = data.encoding.tokenizer
        for name in dict.fromkeys(_MARKERS.findall(tokenizer.chat_template or "")):
            if len(tokenizer.encode(name)) > 1 and name not in tokenizer.special_ids:
                yield Hit("chat template", f"{name} is read as {len(tokenizer.encode(name))} tokens")


def _left_out(data: Examples) -> Iterator[Hit]:
    if data.encoding is None:
        return
    tokenizer = data.encoding.tokenizer
    for what, parts_of in PARTS.items():
        having = (row for row in data.encoding.examples if parts_of(data.conversations[row]))
        for row in (found for found, _ in zip(having, range(SAMPLED), strict=False)):
            text = _plain("".join(tokenizer.decode(one.ids.tolist()) for one in data.encoding.examples[row]))
            if any(
                _plain(part.strip().partition("\n")[0])[:BEGINNING] not in text
                for part in parts_of(data.conversations[row])
            ):
                yield Hit(data.conversations[row].place, f"the rendered text lacks {what}")


def _contents(role: str) -> Callable[[Conversation], list[str]]:
    return lambda one: [message["content"] for message in one.messages if message["role"] == role]


def _called(one: Conversation) -> list[str]:
    calls: list[Mapping[str, Any]] = [call for message in one.messages for call in message.get("tool_calls", ())]
    return [call["function"]["name"] for call in calls]


PARTS: Mapping[str, Callable[[Conversation], list[str]]] = {
    "the system message": _contents("system"),
    "a tool's result": _contents("tool"),
    "a tool call": _called,
    "the description of a tool": lambda one: [str(tool["function"].get("name", "")) for tool in one.tools],
}
"""Parts of a conversation that some chat templates leave out."""


def _plain(text: str) -> str:
    """The letters and digits of a text: templates indent, escape and trim."""
    return "".join(char for char in text.casefold() if char.isalnum())


def sampled(conversations: Sequence[Conversation], count: int) -> list[int]:
    """Indices of evenly spread conversations, and of the first four with each part that a template may leave out."""
    total = len(conversations)
    spread = {number * total // count for number in range(min(count, total))} if total > count else set(range(total))
    for parts_of in PARTS.values():
        spread |= {
            row
            for row, _ in zip(filter(lambda row: parts_of(conversations[row]), range(total)), range(4), strict=False)
        }
    return sorted(spread)


CHECKS = {
    "template-error": Check(
        "error",
        "Rows that the chat template cannot render",
        "Change these conversations to the form that the template accepts, or choose another model.",
        _failures,
    ),
    "endless-answers": Check(
        "error",
        "Rows whose answers have no learned end-of-turn token",
        "Use a chat template that ends each answer with a stop token; without it, the model never stops.",
        lambda data: _rows(data, _endless),
    ),
    "nothing-to-learn": Check(
        "warning",
        "Rows with nothing to learn",
        "Check that the chat template renders these answers, tool calls included, or remove the rows.",
        lambda data: _rows(data, _nothing),
    ),
    "started-twice": Check(
        "warning",
        "Rows that begin with two start tokens",
        "Remove one of them from the chat template.",
        lambda data: _rows(data, _started_twice),
    ),
    "too-long": Check(
        "warning",
        "Rows longer than the model's context, which are skipped",
        "Shorten or split them.",
        lambda data: _rows(data, _long),
    ),
    "unknown-markers": Check(
        "warning",
        "Markers of the chat template that are not tokens of the vocabulary",
        "Use the template that the base model was trained with, or a base model that has these tokens.",
        _unknown_markers,
    ),
    "left-out": Check(
        "warning",
        "Rows that the chat template renders incompletely",
        "Put it into a message that the template renders, or choose a model whose template supports it.",
        _left_out,
    ),
}
