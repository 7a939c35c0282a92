"""Commands of `tinyslm chat`: lines that begin with a slash."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from tinyslm.cli.asking import given_text
from tinyslm.cli.dialogue import Dialogue, describe
from tinyslm.core.console import say, table
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.files import in_home
from tinyslm.inference.settings import SamplingSettings

HELP = (
    ("/system TEXT", "set the system message, or /system @FILE; without a text: remove it"),
    ("/temperature X", "change a setting; /seed, /top-p, /top-k, /max-tokens ... do so too"),
    ("/settings", "show what is set"),
    ("/retry", "answer the last message once more"),
    ("/undo", "take back the last message and its answer"),
    ("/look", "show how likely each token of the answer was, and what else was"),
    ("/reset", "forget what was said"),
    ("/save FILE", "write the conversation as JSON"),
    ("/load FILE", "go on with a saved conversation"),
    ("/help", "show this"),
    ("/exit", "leave; so does Ctrl-D"),
)

OTHER_KEYS = """
A line that ends in \\ goes on in the next one. \"\"\" opens and closes a message of several lines; what is pasted is \
one message. Ctrl-C stops an answer.
A message that begins with a slash: put a space before it."""


class Leave(Exception):
    """The user wants to go."""


def run_command(line: str, dialogue: Dialogue) -> Iterator[str] | None:
    """Do what a line that begins with a slash says; gives an answer to be shown, if there is one.

    Raises `TinyslmError` for an unknown command or a value that is not possible, and `Leave`.
    """
    name, _, rest = line[1:].partition(" ")
    name, rest = name.lower(), rest.strip()
    setting = name.replace("-", "_")
    if setting in _settings():
        _set(setting, rest, dialogue)
    elif name == "retry":
        return dialogue.retry()
    elif name in _ACTIONS:
        _ACTIONS[name](rest, dialogue)
    else:
        names = [*_ACTIONS, "retry", *(setting.replace("_", "-") for setting in _settings())]
        raise TinyslmError(f"There is no command /{name}.", did_you_mean(f"/{name}", [f"/{one}" for one in names]))
    return None


def _settings() -> list[str]:
    """Settings that one value sets."""
    return [name for name in SamplingSettings.model_fields if name != "stop"]


def _set(setting: str, value: str, dialogue: Dialogue) -> None:
    """Change a setting; without a value it gets its usual one back."""
    field = SamplingSettings.model_fields[setting]
    try:
        dialogue.change({setting: value or getattr(dialogue.engine.default_sampling, setting)})
    except TinyslmError as error:
        raise TinyslmError(error.problem.partition(": ")[2], f"{field.description}") from None
    say(f"{setting.replace('_', '-')}: {getattr(dialogue.settings, setting)}")


def _help(_rest: str, _dialogue: Dialogue) -> None:
    table(HELP)
    say(OTHER_KEYS)


def _show(_rest: str, dialogue: Dialogue) -> None:
    table(describe(dialogue))


def _system(text: str, dialogue: Dialogue) -> None:
    dialogue.system = given_text(text)
    say(f"system: {dialogue.system or 'none'}")


def _reset(_rest: str, dialogue: Dialogue) -> None:
    dialogue.reset()
    say("Forgotten.")


def _undo(_rest: str, dialogue: Dialogue) -> None:
    dialogue.undo()
    say("Taken back.")


def _save(rest: str, dialogue: Dialogue) -> None:
    path = _path(rest, "save")
    dialogue.save(path)
    say(f"Saved {dialogue.amount} to {path}.")


def _load(rest: str, dialogue: Dialogue) -> None:
    path = _path(rest, "load")
    dialogue.load(path)
    say(f"Continuing after {dialogue.amount} from {path}.")


def _path(rest: str, name: str) -> Path:
    if not rest:
        raise TinyslmError(f"/{name} needs the name of a file.", f"Such as: /{name} chat.json")
    return in_home(rest)


def _look(_rest: str, dialogue: Dialogue) -> None:
    from tinyslm.inspection.inspecting import LONGEST, inspect

    model, tokenizer = dialogue.engine.model, dialogue.engine.tokenizer
    if len(dialogue.ids) <= dialogue.prompt:
        raise TinyslmError("There is no answer to look at.", "Say something first.")
    begin = max(0, len(dialogue.ids) - min(LONGEST, model.config.longest))
    found = inspect(model, tokenizer, dialogue.ids[begin:], top=4)
    rows = []
    for one in found.tokens[max(1, dialogue.prompt - begin) :]:
        others = [f"{token.text!r} {_percent(logprob)}" for token, logprob in one.top if token.id != one.token.id]
        rows.append((repr(one.token.text), _percent(one.logprob or 0.0), ", ".join(others[:3])))
    table(rows, ("token", "probability", "could have been"))


def _percent(logprob: float) -> str:
    return f"{100 * math.exp(logprob):.1f} %"


def _exit(_rest: str, _dialogue: Dialogue) -> None:
    raise Leave


_ACTIONS = {
    "help": _help,
    "settings": _show,
    "system": _system,
    "reset": _reset,
    "undo": _undo,
    "save": _save,
    "load": _load,
    "look": _look,
    "exit": _exit,
    "quit": _exit,
}
