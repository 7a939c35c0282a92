r"""Output constraints as grammars of llama.cpp (GBNF), for programs that run an exported model.

Converted are choices, regular expressions of plain constructs, and Lark grammars of rules and terminals, as packs write
them: literals, classes, groups, alternatives, and `?`, `*`, `+`, `{m,n}`. llama.cpp reads JSON schemas by itself.

The format: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import re

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.output_constraint import OutputConstraint

_RULE = re.compile(r"^([A-Za-z][A-Za-z0-9_]*)\s*:\s*(.*)$")
_PART = re.compile(
    r"""(?P<space>\s+) | (?P<text>"(?:[^"\\]|\\.)*") | /(?P<regex>(?:[^/\\]|\\.)+)/
    | (?P<name>[A-Za-z][A-Za-z0-9_]*) | (?P<sign>[|()?*+]) | (?P<count>\{\d+(?:,\d*)?\})""",
    re.VERBOSE,
)
_REGEX_PART = re.compile(
    r"""\\(?P<escape>.) | (?P<class>\[\^?\]?(?:[^\]\\]|\\.)*\]) | (?P<open>\((?:\?:)?) | (?P<sign>[|)?*+])
    | (?P<count>\{\d+(?:,\d*)?\}) | (?P<any>\.) | (?P<letter>[^\\\[({.^$])""",
    re.VERBOSE | re.DOTALL,
)
_CLASSES = {"d": "[0-9]", "w": "[0-9A-Za-z_]", "s": r"[ \t\n]", "n": r'"\n"', "t": r'"\t"'}


def gbnf_of(constraint: OutputConstraint) -> str:
    """The grammar. Raises `TinyslmError` for JSON schemas, and for constructs that are not converted."""
    if constraint.kind == "choice":
        return f"root ::= {' | '.join(map(_literal, constraint.value))}\n"
    if constraint.kind == "regex":
        return f"root ::= {_regex(constraint.value)}\n"
    if constraint.kind == "grammar":
        return "".join(_rule(line) for line in constraint.value.splitlines() if line.strip())
    raise _unsupported("a JSON schema")


def _rule(line: str) -> str:
    found = _RULE.match(line)
    if not found:
        raise _unsupported(line)
    name = "root" if found[1] == "start" else _name(found[1])
    return f"{name} ::= {_body(found[2])}\n"


def _body(text: str) -> str:
    made, at = [], 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise _unsupported(text[at:])
        at = part.end()
        if part["regex"] is not None:
            made.append(f"({_regex(part['regex'].replace(chr(92) + '/', '/'))})")
        elif part["name"]:
            made.append(_name(part["name"]))
        else:
            made.append(" " if part["space"] else part[0])
    return "".join(made)


def _name(name: str) -> str:
    """GBNF's names have letters, digits and dashes; a terminal keeps its case."""
    return name.replace("_", "-")


def _regex(pattern: str) -> str:
    made, at = [], 0
    while at < len(pattern):
        part = _REGEX_PART.match(pattern, at)
        if part is None:
            raise _unsupported(pattern[at:])
        at = part.end()
        if part["escape"]:
            made.append(_CLASSES[part["escape"]] if part["escape"] in _CLASSES else _escaped(part["escape"]))
        elif part["letter"]:
            made.append(_literal(part["letter"]))
        elif part["any"]:
            made.append(r"[^\n]")
        else:
            made.append("(" if part["open"] else part[0])
    return " ".join(made).replace(" ?", "?").replace(" *", "*").replace(" +", "+").replace(" {", "{")


def _escaped(character: str) -> str:
    if character.isalnum():
        raise _unsupported(f"\\{character}")
    return _literal(character)


def _literal(text: str) -> str:
    changed = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").replace("\r", r"\r")
    return f'"{changed}"'


def _unsupported(what: str) -> TinyslmError:
    return TinyslmError(
        f"This constraint cannot be written as a grammar of llama.cpp: {what[:80]}", "Use a simpler constraint."
    )
