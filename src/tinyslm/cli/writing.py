"""A text that a person and a model write together: for models that were never trained on conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tinyslm.cli.dialogue import ROOM, Dialogue
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.core.text_files import read_small_text
from tinyslm.inference.request import Request


class Writing(Dialogue):
    """The person's lines are the user's messages, the continuations are the answers; together they are the text.

    Of a text that does not fit the context, the model reads the end.
    """

    takes_empty = True
    _unread = 0  # characters at the beginning of the text

    @property
    def greeting(self) -> str:
        """What this is and what can be typed."""
        why = "" if self.engine.conversations else f"{self.model} was never trained on conversations. "
        return f"{why}It continues your text: type its beginning. Enter alone lets it go on."

    @property
    def cut_off(self) -> str:
        """Nothing: Enter goes on."""
        return ""

    @property
    def text(self) -> str:
        """All of the text so far."""
        return "".join(message["content"] for message in self.messages)

    @property
    def amount(self) -> str:
        """How much there is to save."""
        return f"{len(self.text):,} characters"

    @property
    def lead(self) -> str:
        """The line that is continued."""
        return self.text.rpartition("\n")[2]

    def check(self) -> None:
        """Every model can continue a text."""

    def load(self, path: Path) -> None:
        """Go on with a text file."""
        self.messages = [{"role": "user", "content": read_small_text(path, "/load")}]

    def save(self, path: Path) -> None:
        """Write the text."""
        if path.exists():
            raise TinyslmError(f"{path} exists already.", "Give another name: nothing is written over.")
        write_atomic(path, self.text)

    def _said(self, text: str) -> str:
        """A line begins below the text so far, and keeps its indentation; an empty one adds nothing."""
        return f"\n{text}" if text and self.messages else text

    def _answer(self) -> Iterator[str]:
        yield from super()._answer()
        # The first token may repeat the end of the prompt.
        self.ids = list(self.engine.prompt_ids(self.text[self._unread :]))

    def _request(self) -> Request:
        if self.system:
            raise TinyslmError("A text has no system message.", "Remove it: /system")
        room = min(self.settings.max_tokens, self.engine.context // ROOM)
        self._unread, text = 0, self.text
        while len(self.engine.prompt_ids(text[self._unread :])) + room > self.engine.context:
            self._unread += max(1, (len(text) - self._unread) // 4)
        return self.engine.completion_request(text[self._unread :], self._drawn())
