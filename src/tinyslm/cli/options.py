"""What a command line may contain in addition to the options of a verb: `--section.key value`, and `-`.

An option with a dot is a setting, whatever the verb's own options are called (`--tokenizer FOLDER` and
`--tokenizer.kind char` are different things). So these options are gathered before the command line is parsed, each
into one `--SECTION.KEY=section.key=value`; verbs that have settings take a `SettingOptions` parameter.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from cyclopts import Parameter

SETTING = "--SECTION.KEY"
SettingOptions = Annotated[tuple[str, ...], Parameter(name=SETTING, metavar="VALUE", negative=(), show_default=False)]

TEXTS = (
    "--prompt",
    "-p",
    "--stop",
    "--out",
    "-o",
    "--system",
    "--template",
    "--schema",
    "--regex",
    "--choice",
    "--text",
    "-t",
    "--sample",
)
"""Options whose value may be any text, also one that looks like an option; their verb says `allow_leading_hyphen`."""

_OPTION = re.compile(r"--([A-Za-z_][\w-]*\.[\w.-]+)(?:=(.*))?", re.DOTALL)


def gather(arguments: Sequence[str]) -> Iterator[str]:
    """A command line with its settings gathered, and `-` (standard input) behind `--`, where it is taken for a path.

    A setting without a value is switched on: `true`.
    """
    left = list(reversed(arguments))
    paths: list[str] = []
    while left:
        argument = left.pop()
        if argument == "--":
            paths += reversed(left)
            break
        if argument == "-":
            paths.append(argument)
        elif option := _OPTION.fullmatch(argument):
            key, value = option.groups()
            if value is None:
                value = left.pop() if left and not left[-1].startswith("--") else "true"
            yield f"{SETTING}={key}={value}"
        else:
            yield argument
            if argument in TEXTS and left:
                yield left.pop()
    if paths:
        yield "--"
        yield from paths
