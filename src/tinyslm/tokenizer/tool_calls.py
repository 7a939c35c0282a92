"""Describe tools, calls and results to a model through its chat template.

Tools have OpenAI's schema: `{"type": "function", "function": {"name", "description", "parameters"}}`. A model writes
one or more calls in the format of Hermes and Qwen models, optionally after text:

    <tool_call>
    {"name":"add","arguments":{"x":1,"y":2}}
    </tool_call>

Some chat templates render tools and calls. For others, `with_tools` describes them in messages that every template
can render.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.chat import encode_chat

if TYPE_CHECKING:
    from tinyslm.tokenizer.tokenizer import Tokenizer

Message = dict[str, Any]
Messages = Sequence[Mapping[str, Any]]

Tools = Sequence[Mapping[str, Any]]

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MOST_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_RESULT, _RESULT_END = "<tool_response>", "</tool_response>"

_INTRODUCTION = """\
# Tools

You may call one or more functions to answer the user. These are their signatures:
<tools>
{tools}
</tools>

To call a function, write its name and its arguments as a JSON object, like this:
<tool_call>
{{"name":<function name>,"arguments":<arguments as a JSON object>}}
</tool_call>"""


def with_tools(messages: Messages, tools: Tools | None, tokenizer: Tokenizer) -> list[Message]:
    """Prepare messages so that the chat template of `tokenizer` renders the tools, their calls and results.

    If the template reads tools (`reads_tools`), messages are only normalized (arguments as objects, no content that is
    None), and the caller passes the tools to the template. Otherwise, the system message describes the tools, or the
    first user message if the template has no system message, and calls and results become text.

    Raises `TinyslmError` for tools or messages that do not have OpenAI's schema.
    """
    plain = [_plain(message) for message in messages]
    listed = check_tools(tools or [])
    if reads_tools(tokenizer):
        return plain
    written = _as_text(plain)
    if listed:
        text = "\n".join(json.dumps(_described(tool), ensure_ascii=False) for tool in listed)
        _introduce(written, _INTRODUCTION.format(tools=text), tokenizer)
    return written


def for_template(messages: Messages, tools: Tools | None, tokenizer: Tokenizer) -> tuple[list[Message], Tools | None]:
    """The messages and the tools to pass to the chat template (see `with_tools`), in training and in serving."""
    return with_tools(messages, tools, tokenizer), tools if tools and reads_tools(tokenizer) else None


def reads_tools(tokenizer: Tokenizer) -> bool:
    """Whether the chat template renders tools, and calls in the format of this module.

    With templates of another format, such as Llama 3.1's, messages describe the tools.
    """
    template = tokenizer.chat_template or ""
    return OPEN in template and re.search(r"\btools\b", template) is not None


def check_tools(tools: Tools) -> list[dict[str, Any]]:
    """The functions of `tools`: name, description, parameters. Raises `TinyslmError` for another schema."""
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise TinyslmError(f"The tools are not a list: {tools!r:.60}.", "Give a list of tools.")
    if len(tools) > MOST_TOOLS:
        raise TinyslmError(f"There are {len(tools)} tools.", f"Give at most {MOST_TOOLS}.")
    listed: dict[str, dict[str, Any]] = {}
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TinyslmError(
                f"A tool is not described as a function: {tool!r:.80}.",
                'Give {"type": "function", "function": {"name": ..., "parameters": ...}}, with a name of letters, '
                "digits, _, - and . only.",
            )
        if name in listed:
            raise TinyslmError(f"Two tools are called {name!r}.", "Give each a name of its own.")
        listed[name] = dict(function)
    return list(listed.values())


def _plain(message: Mapping[str, Any]) -> Message:
    """The message with a string as content and objects as arguments, as templates expect."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise TinyslmError(
            f"A message of the conversation is {message!r:.80}.", 'Give messages with "role" and "content".'
        )
    role = "system" if message["role"] == "developer" else message["role"]  # OpenAI's newer name
    plain = {**message, "role": role, "content": _text(message.get("content"))}
    calls = message.get("tool_calls")
    if calls:
        plain["tool_calls"] = [_plain_call(call) for call in calls]
    elif "tool_calls" in plain:
        del plain["tool_calls"]
    return plain


def _text(content: Any) -> str:
    """The text of a message; OpenAI's clients may send it in parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise TinyslmError(f"The content of a message is {content!r:.80}.", "Give text; there are no images or sounds.")
    return "".join(str(text) for text in texts)


def _plain_call(call: Any) -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise TinyslmError(
            f"A tool call in the conversation is {call!r:.80}.",
            'Give {"id": ..., "type": "function", "function": {"name": ..., "arguments": ...}}.',
        )
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _loaded(arguments, arguments)
    return {**call, "function": {**function, "arguments": {} if arguments in (None, "") else arguments}}


def _loaded(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise


def _described(tool: Message) -> Message:
    function = {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key) is not None}
    return {"type": "function", "function": function}


def _as_text(messages: list[Message]) -> list[Message]:
    """Replace calls and results by text; consecutive results become one user message."""
    written: list[Message] = []
    results: list[str] | None = None
    for message in messages:
        if message["role"] == "tool":
            text = message["content"].replace(_RESULT_END, "<\\/tool_response>")  # it cannot end the result
            if results is None:
                results = []
                written.append({"role": "user", "content": ""})
            results.append(f"{_RESULT}\n{text}\n{_RESULT_END}")
            written[-1]["content"] = "\n".join(results)
            continue
        results = None
        calls = [f"{OPEN}\n{_call_text(call['function'])}\n{CLOSE}" for call in message.get("tool_calls", ())]
        rest = {key: value for key, value in message.items() if key not in ("tool_calls", "tool_call_id")}
        written.append({**rest, "content": "\n".join(filter(None, [message["content"], *calls]))})
    return written


def without_result_tags(text: str) -> str:
    """Remove the tags of results from an answer: small models repeat them with the result."""
    return text.replace(_RESULT, "").replace(_RESULT_END, "").strip()


def _call_text(function: Message) -> str:
    call = {"name": function["name"], "arguments": function["arguments"]}
    return json.dumps(call, ensure_ascii=False, separators=(",", ":"))


def _introduce(messages: list[Message], text: str, tokenizer: Tokenizer) -> None:
    """Add `text` to the system message, or to the first user message if the template has no system, in place."""
    first = next((message for message in messages if message["role"] == "system"), None)
    if first is not None:
        first["content"] = f"{first['content']}\n\n{text}".strip()
    elif _writes_system(tokenizer):
        messages.insert(0, {"role": "system", "content": text})
    elif (user := next((message for message in messages if message["role"] == "user"), None)) is not None:
        user["content"] = f"{text}\n\n{user['content']}"
    else:
        messages.insert(0, {"role": "user", "content": text})


_writers: WeakKeyDictionary[Tokenizer, bool] = WeakKeyDictionary()


def _writes_system(tokenizer: Tokenizer) -> bool:
    """Whether the chat template renders system messages; some fail, some leave them out."""
    if tokenizer not in _writers:
        mark = "Speak like a pirate."
        messages = [{"role": "system", "content": mark}, {"role": "user", "content": "x"}]
        try:
            _writers[tokenizer] = mark in tokenizer.decode(encode_chat(tokenizer, messages))
        except TinyslmError:
            _writers[tokenizer] = False
    return _writers[tokenizer]
