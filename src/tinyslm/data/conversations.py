"""Read the rows of users' data as conversations for fine-tuning.

The names of a row's fields determine its format, unless a map names them. A prompt and its answer become a conversation
of two messages; a preference becomes a conversation that ends with the chosen answer and keeps the rejected one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.json_files import read_json
from tinyslm.core.strict_json import JsonError, parse_json
from tinyslm.core.text_files import read_small_text
from tinyslm.data.rows import Rows

Message = dict[str, Any]

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
}
LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog")
PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)
QUESTIONS = ("prompt", "question", "instruction", "query", "input")
"""Names of the prompt of a preference."""
CONTEXTS = ("context", "input", "story")
"""Optional fields whose text is appended to the question."""
LABELS = re.compile(r"^([A-Za-z][\w -]{0,40}):[ \t]*", re.MULTILINE)


@dataclass(frozen=True)
class Conversation:
    """A conversation that ends with the assistant; one that is only a prompt may end with the user.

    place: file and row, for error messages. tools: what the assistant may call. rejected: for preferences, the answer
    that should be less probable than the last message. row: all fields, for graders.
    """

    messages: Sequence[Message]
    place: str
    tools: Sequence[Mapping[str, Any]] = ()
    rejected: Message | None = None
    row: Mapping[str, Any] = field(default_factory=dict, repr=False)


LARGEST_JSON = 1 << 28
"""Maximum size in bytes of a file that is read as a whole."""
Skip = Callable[[str, str], None]
"""Called with the location of a row that cannot be used, and the reason."""


def read_conversations(
    paths: Sequence[str | Path],
    fields: Mapping[str, str] | None = None,
    skip: Skip | None = None,
    *,
    answered: bool = True,
) -> Iterator[Conversation]:
    """Every conversation in files of JSON lines, JSON, CSV, parquet, or text blocks with two labels.

    fields: the names of the fields for "prompt" and "answer" (or for "prompt", "chosen" and "rejected"), and optionally
    "system" and "context". skip: called for each row that cannot be used; without it, such a row raises `TinyslmError`.
    answered: whether each conversation must end with the assistant; otherwise rows need no answer.

    Raises `TinyslmError` for files that cannot be read.
    """
    for path in paths:
        for place, row in rows_of(Path(path), skip):
            try:
                yield conversation_of(row, place, fields, answered=answered)
            except TinyslmError as error:
                if skip is None:
                    raise
                skip(place, error.problem)


def conversation_of(
    row: Mapping[str, Any], place: str, fields: Mapping[str, str] | None = None, *, answered: bool = True
) -> Conversation:
    """Convert a row to a conversation. Raises `TinyslmError`, with the location, for rows that cannot be used.

    Usual names of fields are recognised whatever their case: tables are often titled Question and Answer.
    """
    given = row
    if not fields:
        row = _in_lower_case(row)
    tools = _tools(row.get("tools"), place)
    if fields and "rejected" in fields:
        return replace(_preference(_renamed(row, place, fields), place, tools), row=given)
    if fields:
        messages = _mapped(row, place, fields, answered)
    elif name := next((name for name in LISTS if isinstance(row.get(name), list)), None):
        messages = [_message(one, place) for one in row[name]]
    elif "chosen" in row and "rejected" in row:
        return replace(_preference(row, place, tools), row=given)
    else:
        messages = _pair(row, given, place, answered)
    if (
        "system" in row
        and isinstance(row["system"], str)
        and row["system"]
        and messages[:1]
        and messages[0]["role"] != "system"
    ):
        messages = [{"role": "system", "content": row["system"]}, *messages]
    return Conversation(_checked(messages, place, answered), place, tools, row=given)


def _in_lower_case(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with names in lower case, unless two names would become one."""
    lower = {name.strip().casefold(): value for name, value in row.items()}
    return lower if len(lower) == len(row) else row


def _preference(row: Mapping[str, Any], place: str, tools: Sequence[Mapping[str, Any]]) -> Conversation:
    """Two answers to one prompt, each a text or a whole conversation."""
    sides = []
    for name in ("chosen", "rejected"):
        value = row[name]
        if isinstance(value, str):
            sides.append([*_asked(row, place), {"role": "assistant", "content": value}])
        elif isinstance(value, list):
            prompt = [_message(one, place) for one in row["prompt"]] if isinstance(row.get("prompt"), list) else []
            sides.append([*prompt, *(_message(one, place) for one in value)])
        else:
            raise _mistake(place, f'its "{name}" is neither a text nor a list of messages')
    system = row.get("system")
    if isinstance(system, str) and system:
        first = {"role": "system", "content": system}
        sides = [side if side[:1] and side[0]["role"] == "system" else [first, *side] for side in sides]
    chosen, rejected = (_checked(side, place) for side in sides)
    if chosen[:-1] != rejected[:-1]:
        raise _mistake(place, "its chosen and rejected answers follow different conversations")
    return Conversation(chosen, place, tools, rejected[-1], row)


def _asked(row: Mapping[str, Any], place: str) -> list[Message]:
    """The prompt of a preference."""
    name = next((name for name in QUESTIONS if name in row), "")
    if not name:
        raise _mistake(place, 'it has no "prompt"')
    if isinstance(row[name], list):
        return [_message(one, place) for one in row[name]]
    return [{"role": "user", "content": _with_context(row, name, place)}]


def _with_context(row: Mapping[str, Any], question: str, place: str) -> str:
    """The text of the question, followed by its context."""
    asked = _text(row, question, place)
    below = [str(row[name]) for name in CONTEXTS if name != question and isinstance(row.get(name), str)]
    return "\n\n".join([asked, *(text for text in below if text.strip())])


def _pair(row: Mapping[str, Any], given: Mapping[str, Any], place: str, answered: bool) -> list[Message]:
    for question, answer in PAIRS if answered else sorted(PAIRS, key=lambda pair: pair[1] not in row):
        if question in row and (answer in row or not answered):
            messages = [{"role": "user", "content": _with_context(row, question, place)}]
            return (
                [*messages, {"role": "assistant", "content": _text(row, answer, place)}] if answer in row else messages
            )
    names = ", ".join(list(given)[:20]) or "none"
    raise _mistake(place, f"its format is unknown; its fields are: {names}")


def _renamed(row: Mapping[str, Any], place: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """The values of the mapped fields by their usual names. Raises `TinyslmError` for a missing field."""
    for name in fields.values():
        if name not in row:
            raise TinyslmError(f'{place} has no field "{name}".', did_you_mean(name, map(str, row)))
    return {usual: row[name] for usual, name in fields.items()}


def _mapped(row: Mapping[str, Any], place: str, fields: Mapping[str, str], answered: bool) -> list[Message]:
    _renamed(row, place, fields)
    content = _text(row, fields["prompt"], place)
    if fields.get("context") and str(row[fields["context"]]).strip():
        content += f"\n\n{row[fields['context']]}"
    messages = [{"role": "user", "content": content}]
    if answered or "answer" in fields:
        messages.append({"role": "assistant", "content": _text(row, fields["answer"], place)})
    return [{"role": "system", "content": str(row[fields["system"]])}, *messages] if fields.get("system") else messages


def _message(given: Any, place: str) -> Message:
    """Convert a message from OpenAI's format, or from ShareGPT's with "from" and "value"."""
    if not isinstance(given, Mapping):
        raise _mistake(place, "a message is not an object")
    role = ROLES.get(str(given.get("role", given.get("from"))).casefold())
    if role is None:
        raise _mistake(place, f"a message has the unknown role {given.get('role', given.get('from'))!r}")
    content = given.get("content", given.get("value"))
    if isinstance(content, list):  # parts
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    calls = given.get("tool_calls")
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise _mistake(place, f"a message with the role {role} has no text")
    message: Message = {"role": role, "content": content}
    if calls:
        message["tool_calls"] = [_call(call, place) for call in calls]
    return message | {key: given[key] for key in ("name", "tool_call_id") if isinstance(given.get(key), str)}


def _call(given: Any, place: str) -> dict[str, Any]:
    """Convert a tool call to the form that chat templates read, with the arguments as an object."""
    function = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise _mistake(place, "a tool call has no name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = parse_json(arguments)
        except JsonError as error:
            raise _mistake(place, f"the arguments of a tool call are not JSON: {error}") from None
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(given: Any, place: str) -> Sequence[Mapping[str, Any]]:
    if isinstance(given, str):  # Parquet files store them as JSON text
        try:
            given = json.loads(given)
        except ValueError:
            raise _mistake(place, 'its "tools" are not JSON') from None
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(tool, Mapping) for tool in given):
        raise _mistake(place, 'its "tools" are not a list of objects')
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in given]


def _checked(messages: Sequence[Message], place: str, answered: bool = True) -> Sequence[Message]:
    needed = "assistant" if answered else "user"
    if not any(message["role"] == needed for message in messages):
        raise _mistake(place, f"it has no {needed} message")
    while answered and messages[-1]["role"] != "assistant":
        messages = messages[:-1]  # nothing is learned from what comes after
    empty = [
        one
        for one in messages
        if one["role"] == "assistant" and not one["content"].strip() and not one.get("tool_calls")
    ]
    if empty:
        raise _mistake(place, "an answer is empty")
    if messages[0]["role"] == "assistant":
        raise _mistake(place, "its first message is the assistant's")
    return messages


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise _mistake(place, f'its "{name}" is {"empty" if isinstance(value, str) else "not a text"}')
    return value


def _mistake(place: str, what: str) -> TinyslmError:
    return TinyslmError(f"{place} cannot be used: {what}.", "Correct or remove the row, or name its fields: --map")


def rows_of(path: Path, skip: Skip | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a file, each with its location.

    skip: called for each row that cannot be read; without it, such a row raises `TinyslmError`.
    """
    if path.suffix in (".txt", ".md"):
        yield from _blocks(path)
        return
    if path.suffix == ".json":
        values = read_json(path, list[dict[str, Any]], limit=LARGEST_JSON, remedy="Write one JSON object on each line.")
        yield from ((f"{path.name}, item {number}", value) for number, value in enumerate(values, 1))
        return
    rows = Rows(str(path))
    with closing(iter(rows)) as iterator:
        for row in iterator:
            place = f"{path.name}, row {row.number}"
            if not row.problem:
                yield place, row.values
            elif skip is None:
                raise TinyslmError(f"{place} cannot be read: {row.problem}.", "Correct or remove the row.")
            else:
                skip(place, f"{place} cannot be read: {row.problem}.")


def _blocks(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows from text blocks with two labels each, such as "Instruction:" and "Formula:"; the first starts a block."""
    text = read_small_text(path, "the data", LARGEST_JSON)
    if not text.strip():
        raise TinyslmError(f"{path} is empty.", "Give a file with examples.")
    matches = list(LABELS.finditer(text))
    labels = list(dict.fromkeys(match[1] for match in matches))[:2]
    if len(labels) < 2:
        raise TinyslmError(f"{path} has no blocks with two labels.", 'Write lines "Question: ..." and "Answer: ...".')
    matches = [match for match in matches if match[1] in labels]
    prompt, place = "", ""
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        content = text[match.end() : following.start() if following else len(text)].strip()
        if match[1] == labels[0]:
            prompt, place = content, f"{path.name}, line {text.count(chr(10), 0, match.start()) + 1}"
        elif prompt:
            yield place, {"prompt": prompt, "completion": content}
            prompt = ""
