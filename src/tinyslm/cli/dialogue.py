"""A conversation with an engine: its messages, which of them still fit the context, and files that hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.inference.engine import Engine
from tinyslm.inference.generation import Generation
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings

Message = dict[str, Any]

SAVED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed")
"""The settings that are saved with a conversation, here and by the chat page of `tinyslm serve`."""

ROOM = 4
"""This part of the context is kept free for an answer, unless fewer tokens are asked for."""


class Dialogue:
    """Messages in OpenAI's form, and the answer under way.

    Attributes: `messages` without the system's; `system`; `settings`; `ids`: of the last prompt and its answer, of
    which the first `prompt` are the prompt's; `forgotten`: how many messages the last prompt had no room for;
    `takes_empty`: whether an empty line is answered too.
    """

    takes_empty = False

    def __init__(self, engine: Engine, model: str, system: str, settings: SamplingSettings) -> None:
        self.engine, self.model, self.system, self.settings = engine, model, system, settings
        self.messages: list[Message] = []
        self.ids: list[int] = []
        self.prompt = self.forgotten = self.tokens = 0
        self.finish = ""
        self._tries = 0
        self._generation: Generation | None = None

    @property
    def greeting(self) -> str:
        """What this is and what can be typed."""
        return f"Talking with {self.model}."

    @property
    def cut_off(self) -> str:
        """What is said after an answer that was cut off."""
        if self.tokens < self.settings.max_tokens:
            return f"(cut off: the context of {self.engine.context:,} tokens is full)"
        return "(cut off: /max-tokens N allows more)"

    @property
    def amount(self) -> str:
        """How much there is to save."""
        return f"{len(self.messages)} messages"

    @property
    def lead(self) -> str:
        """What is shown before an answer."""
        return ""

    def check(self) -> None:
        """Raise `TinyslmError` when the model cannot hold a conversation at all."""
        try:
            self.engine.chat_ids([{"role": "user", "content": "Hello"}])
        except TinyslmError as error:
            raise TinyslmError(
                error.problem, f'Let it go on with a text instead: tinyslm generate {self.model} -p "Once upon a time"'
            ) from None

    def say(self, text: str) -> Iterator[str]:
        """Add what the user says, and answer it. A message that cannot be answered is taken back."""
        self.messages.append({"role": "user", "content": self._said(text)})
        self._tries = 0
        try:
            yield from self._answer()
        except TinyslmError:
            self.messages.pop()
            raise

    def retry(self) -> Iterator[str]:
        """Answer the last message once more, with other draws."""
        if not any(message["role"] == "assistant" for message in self.messages):
            raise TinyslmError("There is no answer to try again.", "Say something first.")
        while self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        self._tries += 1
        yield from self._answer()

    def undo(self) -> None:
        """Take back the last message, and the answer to it."""
        last = max((at for at, message in enumerate(self.messages) if message["role"] == "user"), default=None)
        if last is None:
            raise TinyslmError("There is nothing to take back.", "Say something first.")
        del self.messages[last:]
        self.ids.clear()

    def cancel(self) -> None:
        """End the answer under way; what came of it stays."""
        if self._generation is not None:
            self._generation.cancel()

    def reset(self) -> None:
        """Forget everything that was said, but not the system message."""
        self.messages.clear()
        self.ids.clear()

    def save(self, path: Path) -> None:
        """Write the conversation and its settings as JSON."""
        if path.exists():
            raise TinyslmError(f"{path} exists already.", "Give another name: nothing is written over.")
        settings = {name: value for name in SAVED if (value := getattr(self.settings, name)) is not None}
        write_json(path, {"model": self.model, "messages": self._sent(0), "settings": settings})

    def load(self, path: Path) -> None:
        """Go on with a saved conversation, and its settings."""
        remedy = "Give a file that /save or the chat page wrote."
        saved = read_json(path, remedy=remedy)
        messages = saved.get("messages")
        if not isinstance(messages, list) or not all(map(_is_message, messages)):
            raise TinyslmError(f"{path} holds no conversation.", remedy)
        given = saved.get("settings")
        known = {name: given[name] for name in SAVED if name in given} if isinstance(given, dict) else {}
        self.change(known, str(path))
        begins = bool(messages) and messages[0]["role"] == "system"
        self.system = messages[0]["content"] if begins else ""
        self.messages = [dict(message) for message in messages[begins:]]

    def change(self, values: Mapping[str, Any], origin: str = "the settings") -> None:
        """Change settings; texts are converted. Raises `TinyslmError` for a value that is not possible."""
        self.settings = build_config(SamplingSettings, {**self.settings.model_dump(), **values}, origin)

    def _answer(self) -> Iterator[str]:
        request = self._request()
        self.ids, self.prompt = list(request.prompt_ids), len(request.prompt_ids)
        self._generation = self.engine.submit(request)
        parts = []
        for piece in self._generation:
            self.ids += piece.ids
            self.finish, self.tokens = piece.finish, piece.tokens
            parts.append(piece.text)
            if piece.text:
                yield piece.text
        self._generation = None
        self.messages.append({"role": "assistant", "content": "".join(parts)})

    def _said(self, text: str) -> str:
        """The message that a typed text is."""
        return text.strip("\n").rstrip() if "\n" in text else text.strip()  # the first line may be indented

    def _request(self) -> Request:
        return Request(self._fitting(), self._drawn(), continues=False)

    def _drawn(self) -> SamplingSettings:
        """The settings; where a seed is fixed, each new try draws with the next one."""
        if self.settings.seed is None or not self._tries:
            return self.settings
        return self.settings.model_copy(update={"seed": self.settings.seed + self._tries})

    def _fitting(self) -> tuple[int, ...]:
        """The ids of as much of the conversation as leaves room for an answer: oldest turns are left out first."""
        room = min(self.settings.max_tokens, self.engine.context // ROOM)
        first = 0
        while True:
            ids = self.engine.chat_ids(self._sent(first))
            following = next((at for at in range(first + 1, len(self.messages)) if self._begins_turn(at)), None)
            if len(ids) + room <= self.engine.context or following is None:
                self.forgotten = first
                return ids
            first = following

    def _begins_turn(self, at: int) -> bool:
        return bool(self.messages[at]["role"] == "user")

    def _sent(self, first: int) -> list[Message]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.messages[first:]]


def _is_message(message: object) -> bool:
    if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant", "tool"):
        return False
    return isinstance(message.get("content"), str)


def describe(dialogue: Dialogue) -> Sequence[tuple[str, str]]:
    """The settings that are in force, as rows of a table."""
    settings = dialogue.settings
    rows = [("system", dialogue.system or "none")]
    rows += [(name.replace("_", "-"), _shown(getattr(settings, name))) for name in type(settings).model_fields]
    return rows


def _shown(value: object) -> str:
    return "none" if value is None or value == () else str(value)
