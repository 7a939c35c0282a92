"""A terminal that a person types into: messages of several lines, answers broken between words, keys typed ahead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unicodedata import east_asian_width

from tinyslm.core.console import say
from tinyslm.core.printable import columns

BLOCK = '"""'
"""Opens a message of several lines at the start of one, and closes it at the end of one."""
FENCE = "```"


def read_message() -> str | None:
    r"""What the user types or pastes at a prompt; `None` when they leave.

    A line that ends in `\` goes on in the next one. A block has a line end before it, so it is no command.
    """
    import readline

    if _marks_pastes():
        readline.parse_and_bind("set enable-bracketed-paste on")  # a paste is edited as one text
    message = Message()
    while True:
        try:
            line = input("› " if message.is_empty else "… ")
        except KeyboardInterrupt:
            message = Message()
            say()
            continue
        except EOFError:
            say()
            return None
        except UnicodeDecodeError:
            continue
        if (whole := message.add(line)) is not None:
            return whole


class Message:
    """The lines of a message that is being typed."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._in_block = False

    @property
    def is_empty(self) -> bool:
        """Whether no line was added."""
        return not self._lines

    def add(self, line: str) -> str | None:
        """The message, if it is complete with this line."""
        line = line.replace("\r", "\n")
        if not self._lines and line.lstrip().startswith(BLOCK):
            self._in_block = True
            line = line.lstrip().removeprefix(BLOCK)
            self._lines.append("")
        if self._in_block:
            text = line.rstrip()
            self._lines.append(text.removesuffix(BLOCK))
            return "\n".join(self._lines) if text.endswith(BLOCK) else None
        self._lines.append(line.removesuffix("\\"))
        return None if line.endswith("\\") else "\n".join(self._lines)


class WordWrap:
    """Breaks a text that comes in pieces between words, where a line is wider than the terminal.

    A word is passed on as soon as it is complete. Code between lines of three backticks and words that are wider than
    the terminal stay as they are.
    """

    def __init__(self, width: int) -> None:
        """width: in columns."""
        self._width = width
        self._column = 0
        self._blanks = self._word = self._head = ""
        self._code = self._long = False

    def add(self, piece: str) -> str:
        """What can be shown with one more piece of the text."""
        return "".join(map(self._add, piece))

    def end(self) -> str:
        """The last word."""
        return self._placed()

    def _add(self, character: str) -> str:
        if character == "\n":
            shown = self._placed() + character
            self._code ^= self._head == FENCE
            self._column, self._blanks, self._head, self._long = 0, "", "", False
            return shown
        blank = character in " \t"
        if not blank and len(self._head) < len(FENCE):
            self._head += character
        if not self._code and blank:
            shown, self._long = self._placed(), False
            self._blanks += character
            return shown
        return character if self._code or self._long else self._in_word(character)

    def _in_word(self, character: str) -> str:
        wide = east_asian_width(character) in "WF"  # lines may be broken before and after such a character
        shown = self._placed() if wide else ""
        self._word += character
        if wide:
            return shown + self._placed()
        if columns(self._word) < self._width:
            return ""
        self._long = True
        return self._placed()

    def _placed(self) -> str:
        """The word, with the blanks before it, or on a new line."""
        if not self._word:
            return ""
        before = self._blanks
        if self._column and self._column + columns(before + self._word) > self._width:
            before, self._column = "\n", 0
        shown = before + self._word
        self._column += columns(shown.removeprefix("\n"))
        self._word = self._blanks = ""
        return shown


@contextmanager
def keys_kept() -> Iterator[None]:
    """Keys that are typed within the block are not shown and stay for the next prompt; Ctrl-C interrupts as usual."""
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    keyboard = sys.stdin.fileno()
    before, quiet = termios.tcgetattr(keyboard), termios.tcgetattr(keyboard)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)  # without ICANON no line is too long for the system's buffer
    quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
    termios.tcsetattr(keyboard, termios.TCSADRAIN, quiet)
    _mark_pastes(on=True)
    try:
        yield
    finally:
        _mark_pastes(on=False)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _marks_pastes() -> bool:
    return os.environ.get("TERM", "dumb") != "dumb"


def _mark_pastes(*, on: bool) -> None:
    """Have the terminal mark what is pasted while nothing reads it, as the prompt does."""
    if _marks_pastes():
        sys.stdout.write(f"\x1b[?2004{'h' if on else 'l'}")
        sys.stdout.flush()
