"""Reading tool calls out of text as it is generated.

Text passes through as it comes; from `<tool_call>` on, a call is read and reported as OpenAI's clients expect it: its
name first, then its arguments in pieces that joined are a JSON object. However the text is cut into pieces, the result
is the same. Nothing here raises: what is not a call is text, and a call that breaks off is reported as broken.

A call that repeats an earlier one, with the same name and arguments, ends the list: it and all that follows are left
out. Otherwise, small models would repeat themselves up to the token limit.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tinyslm.tokenizer.tool_calls import CLOSE, OPEN


@dataclass(frozen=True)
class TextDelta:
    """Some more of the text outside calls."""

    text: str


@dataclass(frozen=True)
class CallStart:
    """A call begins; calls are numbered from 0."""

    index: int
    name: str


@dataclass(frozen=True)
class ArgumentsDelta:
    """Some more of a call's arguments, a JSON object."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnd:
    """The call is complete: its arguments are a JSON object."""

    index: int


@dataclass(frozen=True)
class CallBroken:
    """The call cannot be made: its arguments, of which some may have been reported, are not a JSON object."""

    index: int


CallEvent = TextDelta | CallStart | ArgumentsDelta | CallEnd | CallBroken


# The usual beginning of a call, after which its arguments can be reported as they come.
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_MARK = re.compile(r'["\\{}\[\]]')


class ToolCallStream:
    """Splits generated text into text and calls.

    Attributes:
        unfinished: whether a call or its tag was cut off before its name was known, and left out.
    """

    def __init__(self) -> None:
        self.unfinished = False
        self._distinct = _Distinct()
        self._state = self._text
        self._held = ""  # what has come and is not decided on
        self._gap = ""  # white space before the call that is being read
        self._index = -1
        self._events: list[CallEvent] = []
        self._arguments = _Arguments()
        self._cut = False

    def push(self, text: str) -> list[CallEvent]:
        """What is certain with this text."""
        self._held += text
        self._read(ended=False)
        return self._take_events()

    def flush(self, *, cut: bool = False) -> list[CallEvent]:
        """The events that were held back, at the end of the text.

        cut: the text was cut off, so that the beginning of a tag or of a call at its end is not text.
        """
        self._cut = cut
        self._read(ended=True)
        return self._take_events()

    @property
    def repeated(self) -> bool:
        """Whether a call repeated an earlier one, which ends the list."""
        return self._distinct.repeated

    @property
    def in_tag(self) -> bool:
        """Whether the text ends in the middle of an opening tag."""
        return self._state == self._text and _begun_tag(self._held) >= len("<tool")

    def _read(self, *, ended: bool) -> None:
        while self._state(ended):
            pass

    def _take_events(self) -> list[CallEvent]:
        events, self._events = self._events, []
        return [one for event in events for one in self._distinct.passed(event)]

    # Each state takes what it can from the held text, and returns whether another one goes on with the rest.

    def _text(self, ended: bool) -> bool:
        place = self._held.find(OPEN)
        if place >= 0:
            said = self._held[:place].rstrip()
            self._say(said)
            self._gap = self._held[len(said) : place]
            self._held = self._held[place + len(OPEN) :]
            self._state = self._call
            return True
        if ended and self._index >= 0 and self._held.isspace():  # after a call
            self._held = ""
        if self._cut and (size := _begun_tag(self._held)):
            self._held, self.unfinished = self._held[:-size].rstrip(), True
        keep = 0 if ended else _undecided(self._held)
        self._say(self._held[: len(self._held) - keep])
        self._held = self._held[len(self._held) - keep :]
        return False

    def _call(self, ended: bool) -> bool:
        """The whole call if it is there, else its beginning; text if it is neither."""
        head = _HEAD.match(self._held)
        name = _loaded(head[1]) if head else None
        if head and isinstance(name, str):
            self._start(name)
            self._held = self._held[head.end() :]
            self._arguments = _Arguments()
            self._state = self._inside
            return True
        ends = [match.start() for match in re.finditer(re.escape(CLOSE), self._held)]
        for end in [*ends, *([len(self._held)] if ended else [])]:
            whole = _whole_call(self._held[:end])
            if whole is not None:
                self._start(whole[0])
                self._events += [ArgumentsDelta(self._index, whole[1]), CallEnd(self._index)]
                self._held = self._held[end:]
                self._state = self._after
                return True
            if not _in_text(self._held[:end]):  # else this end may stand in one of the call's texts
                break
        else:
            if not ended:
                return False
            end = len(self._held)
        if self._cut and not self._held.startswith(CLOSE, end):
            self._held, self.unfinished, self._state = "", True, self._text
            return False
        closed = self._held.startswith(CLOSE, end)
        self._say(self._gap + OPEN + self._held[:end] + (CLOSE if closed else ""))
        self._held = self._held[end + len(CLOSE) * closed :]
        self._state = self._text
        return True

    def _inside(self, ended: bool) -> bool:
        """Arguments: reported as they come, up to the brace that closes them."""
        count, closed = self._arguments.push(self._held)
        if count:
            self._events.append(ArgumentsDelta(self._index, self._held[:count]))
            self._held = self._held[count:]
        if not closed and not ended:
            return False
        sound = closed and isinstance(_loaded(self._arguments.text), dict)
        self._events.append(CallEnd(self._index) if sound else CallBroken(self._index))
        self._state = self._after
        return True

    def _after(self, ended: bool) -> bool:
        """What is left of the call, up to its closing tag, or to the next opening one where that is missing."""
        close, begin = self._held.find(CLOSE), self._held.find(OPEN)
        if close >= 0 and not 0 <= begin < close:
            self._held = self._held[close + len(CLOSE) :]
        elif begin >= 0:
            self._held = self._held[begin:]
        else:
            keep = max(len(CLOSE), len(OPEN)) - 1
            self._held = "" if ended else self._held[-keep:]
            return False
        self._state = self._text
        return True

    def _say(self, text: str) -> None:
        if text:
            self._events.append(TextDelta(text))

    def _start(self, name: str) -> None:
        self._index += 1
        self._events.append(CallStart(self._index, name))


class _Arguments:
    """Finds the end of a JSON object that comes in pieces; `quoted`: the last piece ended in the middle of a text."""

    def __init__(self) -> None:
        self.text = ""
        self.quoted = False
        self._depth = 0
        self._escaped = False

    def push(self, text: str) -> tuple[int, bool]:
        """How many characters belong to the object, and whether the last of them ends it."""
        at = int(self._escaped and bool(text))
        self._escaped = self._escaped and not text
        while (match := _MARK.search(text, at)) is not None:
            at, mark = match.end(), match[0]
            if mark == "\\":
                self._escaped = self.quoted and at == len(text)
                at += self.quoted
            elif mark == '"':
                self.quoted = not self.quoted
            elif not self.quoted:
                self._depth += 1 if mark in "{[" else -1
                if self._depth <= 0:
                    self.text += text[:at]
                    return at, True
        self.text += text
        return len(text), False


class _Distinct:
    """Drops the first call that repeats an earlier one, and all events after it.

    A call that begins like an earlier one is held back until they differ.
    """

    def __init__(self) -> None:
        self.repeated = False
        self._made: list[tuple[str, str]] = []
        self._call = ("", "")
        self._held: list[CallEvent] = []

    def passed(self, event: CallEvent) -> list[CallEvent]:
        """The events to pass on, now that this one has come."""
        if self.repeated:
            return []
        match event:
            case TextDelta():
                return [event]
            case CallStart(_, name):
                self._call = name, ""
            case ArgumentsDelta(_, text):
                self._call = self._call[0], self._call[1] + text
            case CallEnd() if self._call in self._made:
                self.repeated, self._held = True, []
                return []
            case CallEnd():
                self._made.append(self._call)
        name, arguments = self._call
        self._held.append(event)
        going_on = isinstance(event, CallStart | ArgumentsDelta)
        if going_on and any(name == one and known.startswith(arguments) for one, known in self._made):
            return []
        events, self._held = self._held, []
        return events


def _begun_tag(text: str) -> int:
    """How many characters at the end are the beginning of an opening tag."""
    return next((size for size in range(min(len(OPEN) - 1, len(text)), 0, -1) if text.endswith(OPEN[:size])), 0)


def _undecided(text: str) -> int:
    """How many characters at the end may belong to a tag, or be the white space before one."""
    return len(text) - len(text[: len(text) - _begun_tag(text)].rstrip())


def _whole_call(text: str) -> tuple[str, str] | None:
    """Name and arguments (as JSON) of the call that a JSON object describes, in any order.

    Arguments may also be JSON in a text, or be missing.
    """
    call = _loaded(text)
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        arguments = _loaded(arguments)
        if arguments is None:
            return None
    arguments = arguments or {}
    return (call["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _in_text(text: str) -> bool:
    """Whether the JSON document that begins so is in the middle of a text."""
    arguments = _Arguments()
    arguments.push(text)
    return arguments.quoted


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
