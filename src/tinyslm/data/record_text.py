"""Extract the text of a JSON record: its text column, its conversation, or its question and answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tinyslm.data.documents import Tally

CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog")
"""Names of columns that hold a list of messages: `role` and `content`, or `from` and `value`."""

_PAIRS = tuple(  # columns to join; those with a question mark may be missing or empty
    names.split()
    for names in (
        "system? prompt completion",
        "system? prompt response",
        "system? instruction context? input? output",
        "system? instruction context? input? response",
        "context? question answer",
        "context? question response",
        "query response",
        "input output",
    )
)
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "User"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "Assistant"),
    **dict.fromkeys(("system", "developer"), "System"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "Tool"),
}


def record_text(record: Any, wanted: str, column: str, place: str, tally: Tally) -> str | None:
    """The text of a record, or None if it has none.

    wanted: the column that the user named; then no other is used. Otherwise the first of these that exists: the record
    itself, if it is a string; the column `text`; a conversation; a question with its answer; the column `column`.
    A conversation becomes a paragraph for each message, beginning with `User: `, `Assistant: `, `System: ` or `Tool: `.
    Tool calls become JSON; parts that are not text are left out and counted in `tally`.
    """
    if not isinstance(record, dict):
        return _value(record, place, tally)
    if wanted:
        return _value(record.get(wanted), place, tally)
    names = (name for name in ("text", *CONVERSATIONS) if name in record)
    text = next((value for name in names if (value := _value(record[name], place, tally)) is not None), None)
    if text is None:
        text = _pair(record, place, tally)
    return _value(record.get(column), place, tally) if text is None and column else text


def _value(value: Any, place: str, tally: Tally) -> str | None:
    return value if isinstance(value, str) else _conversation(value, place, tally)


def _pair(record: Mapping[str, Any], place: str, tally: Tally) -> str | None:
    for names in _PAIRS:
        parts = [_part(record.get(name.rstrip("?")), place, tally) for name in names]
        if all(part for part, name in zip(parts, names, strict=True) if not name.endswith("?")):
            return _joined([part for part in parts if part])
    return None


def _part(value: Any, place: str, tally: Tally) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _value(value, place, tally)


def _joined(parts: Sequence[str]) -> str:
    """Join texts, with a newline where there is no white space between them."""
    text = ""
    for part in parts:
        separated = not text or text[-1].isspace() or part[:1].isspace()
        text += part if separated else f"\n{part}"
    return text


def _conversation(messages: Any, place: str, tally: Tally) -> str | None:
    """The text of a list of messages; `None` for other values, and if all messages are empty."""
    if not is_conversation(messages):
        return None
    paragraphs = []
    for message in messages:
        role = str(message.get("role") or message.get("from"))
        content = next((message[key] for key in ("content", "value", "text") if message.get(key) is not None), "")
        lines = [_content(content, place, tally), *map(_call, _calls(message))]
        if body := "\n".join(line for line in lines if line.strip()):
            paragraphs.append(f"{_ROLES.get(role.lower(), role.capitalize())}: {body}")
    return "\n\n".join(paragraphs) or None


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and isinstance(one.get("role") or one.get("from"), str) for one in value)
    )


def _content(content: Any, place: str, tally: Tally) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(text)
        else:
            tally.add("message_parts", place)
    return "\n".join(texts)


def _calls(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls") or []
    return [*(calls if isinstance(calls, list) else [calls]), *filter(None, [message.get("function_call")])]


def _call(call: Any) -> str:
    """A tool call as compact JSON, the format that models learn."""
    function = call.get("function", call) if isinstance(call, dict) else call
    if isinstance(function, dict) and "name" in function:
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:  # a model's text may be invalid JSON
                return f"{function['name']}({arguments})"
        function = {"name": function["name"], "arguments": arguments}
    return json.dumps(function, ensure_ascii=False, separators=(",", ":"))
