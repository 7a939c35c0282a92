"""Checks of examples for fine-tuning, their input and their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import Example
from tinyslm.tokenizer.tokenizer import Tokenizer

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""In descending order: an error makes the data useless or harmful; a note may be right for the task."""

PLACES = 3
"""Places in a finding."""


class Hit(NamedTuple):
    """A place with a fault (file and row), and the details."""

    place: str
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, self))


class Answer(NamedTuple):
    """One assistant message with text. row: the index of its conversation."""

    row: int
    place: str
    text: str


@dataclass(frozen=True)
class Encoding:
    """Tokenized conversations.

    examples: the examples of each encoded conversation, by its index. failures: conversations that the chat template
    cannot render. context: the maximum number of tokens that the model can read.
    """

    tokenizer: Tokenizer
    context: int
    examples: Mapping[int, Sequence[Example]]
    failures: Sequence[Hit] = ()


@dataclass(frozen=True)
class Examples:
    """The examples to check.

    valid: conversations to validate on. against: (location, text) of evaluation files. unreadable: rows that are not
    conversations. encoding: the tokenized conversations, if a model is given.
    """

    conversations: Sequence[Conversation]
    valid: Sequence[Conversation] = ()
    against: Sequence[tuple[str, str]] = ()
    unreadable: Sequence[Hit] = ()
    encoding: Encoding | None = None

    @cached_property
    def texts(self) -> Sequence[str]:
        """The whole text of each conversation."""
        return [text_of(one) for one in self.conversations]

    @cached_property
    def answers(self) -> Sequence[Answer]:
        """Every assistant message that has text."""
        return [
            Answer(row, one.place, message["content"])
            for row, one in enumerate(self.conversations)
            for message in one.messages
            if message["role"] == "assistant" and message["content"].strip()
        ]

    @cached_property
    def pairs(self) -> Sequence[tuple[str, str, str]]:
        """Location, chosen answer and rejected answer of each preference."""
        return [
            (one.place, one.messages[-1]["content"], one.rejected["content"])
            for one in self.conversations
            if one.rejected is not None
        ]

    def hits(self, rows: Iterable[int], detail: str = "") -> list[Hit]:
        """Hits in the conversations with these indices."""
        return [Hit(self.conversations[row].place, detail) for row in rows]


@dataclass(frozen=True)
class Check:
    """A check. severity, title, remedy: those of its findings. find: returns every place with the fault."""

    severity: Severity
    title: str
    remedy: str
    find: Callable[[Examples], Iterable[Hit]]


@dataclass(frozen=True)
class Finding:
    """The result of a check: the number of places, and the first of them. check: its name in `CHECKS`."""

    check: str
    severity: Severity
    title: str
    count: int
    places: Sequence[Hit]
    remedy: str

    def __str__(self) -> str:
        return f"{self.title}: {self.count:,}"


@dataclass(frozen=True)
class Report:
    """The findings, most severe first, and the number of rows that were checked."""

    rows: int
    findings: Sequence[Finding]
    examples: Examples = field(repr=False)

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]


def text_of(conversation: Conversation, *, system: bool = True) -> str:
    """The whole text of a conversation, with or without its system message, one line per message."""
    messages = [*conversation.messages, *([conversation.rejected] if conversation.rejected else [])]
    texts = [message["content"] for message in messages if system or message["role"] != "system"]
    calls = [str(call) for message in messages for call in message.get("tool_calls", ())]
    return "\n".join([*texts, *calls])


def quoted(text: str, length: int = 60) -> str:
    """The beginning of a text in quotation marks, on one line."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= length else f'"{line[: length - 1]}…"'
