"""`tinyslm chat`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tinyslm.cli.asking import EngineOptions, Text
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from types import FrameType

    from tinyslm.cli.dialogue import Dialogue


def chat(
    model: Path,
    /,
    *,
    system: Annotated[str, Text] = "",
    write: bool | None = None,
    sampling: Annotated[SamplingSettings | None, Parameter(name="*")] = None,
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Talk with a model; answers appear as they are generated. /help in the chat lists what else can be typed.

    Where something is piped in, each of its lines is answered, as one conversation, and standard output holds only the
    answers.

    Parameters
    ----------
    model
        A model folder, a run folder (its model is used), a GGUF file (imported first), or a name that
        `tinyslm pull --list` shows (pulled first).
    system
        A message that tells the model how to behave; `@FILE` reads it from a file.
    write
        Continue a text together, line by line, instead of a conversation. In a terminal this is the default for a model
        that was never trained on conversations.
    sampling
        How the text is drawn.
    engine
        What computes.
    json
        Print one JSON object for each answer, when it is complete.
    """
    import sys

    from tinyslm.cli.asking import opened
    from tinyslm.cli.dialogue import Dialogue
    from tinyslm.cli.writing import Writing
    from tinyslm.core.console import warn

    with opened(model, engine or EngineOptions(), threaded=False) as running:
        talks = sys.stdin.isatty() and sys.stdout.isatty() and not json
        writes = talks and not running.conversations if write is None else write
        kind = Writing if writes else Dialogue
        dialogue = kind(running, str(model), system, running.with_defaults(sampling))
        dialogue.check()
        if not (writes or running.conversations):
            warn(f"{model} was never trained on conversations: it continues texts.")
        if talks:
            _talk(dialogue)
        else:
            _answer_lines(dialogue, json=json)


def _answer_lines(dialogue: Dialogue, *, json: bool) -> None:
    """Each line of standard input is a message."""
    import sys
    from json import dumps

    from tinyslm.core.console import stream, warn
    from tinyslm.core.text_files import lines_as_they_come

    for line in lines_as_they_come(sys.stdin.buffer):
        if not (text := line.strip()):
            continue
        pieces = dialogue.say(text)
        if json:
            whole = "".join(pieces)
            answer = {"message": text, "text": whole, "finish": dialogue.finish, "tokens": dialogue.tokens}
            stream(dumps(answer) + "\n")
        else:
            for piece in pieces:
                stream(piece)
            stream("\n")
        if dialogue.forgotten:
            warn(_forgot(dialogue))


def _talk(dialogue: Dialogue) -> None:
    """A conversation in a terminal."""
    from tinyslm.cli.commands import Leave, run_command
    from tinyslm.cli.terminal import read_message
    from tinyslm.core.console import fail, say
    from tinyslm.core.errors import TinyslmError

    say(f"{dialogue.greeting} /help says what can be typed; Ctrl-D leaves.\n")
    while (line := read_message()) is not None:
        if not (line.strip() or dialogue.takes_empty):
            continue
        try:
            answer = run_command(line, dialogue) if line.startswith("/") else dialogue.say(line.removeprefix("\n"))
            if answer is not None:
                _show(answer, dialogue)
        except TinyslmError as error:
            fail(error.problem, error.remedy)
        except Leave:
            return
        say()


def _show(pieces: Iterable[str], dialogue: Dialogue) -> None:
    """An answer as it comes, broken between words; Ctrl-C stops it."""
    from shutil import get_terminal_size

    from tinyslm.cli.terminal import WordWrap, keys_kept
    from tinyslm.core.console import say, stream
    from tinyslm.core.printable import printable

    wrap = WordWrap(get_terminal_size().columns)
    with _stopping(dialogue), keys_kept():
        for number, piece in enumerate(pieces):
            if not number and dialogue.forgotten:
                say(f"({_forgot(dialogue)})")
            stream(wrap.add(printable(piece if number else dialogue.lead + piece)))
        stream(wrap.end())
    say()
    if dialogue.finish == "cancelled":
        say("(stopped)")
    elif dialogue.finish == "length" and dialogue.cut_off:
        say(dialogue.cut_off)


@contextmanager
def _stopping(dialogue: Dialogue) -> Iterator[None]:
    """Ctrl-C ends the answer between two steps of the engine, so that it can go on with the next one."""
    import signal

    def stop(_number: int, _frame: FrameType | None) -> None:
        dialogue.cancel()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _forgot(dialogue: Dialogue) -> str:
    count = dialogue.forgotten
    return (
        f"The context is full: the oldest {count} messages are left out."
        if count > 1
        else ("The context is full: the oldest message is left out.")
    )
