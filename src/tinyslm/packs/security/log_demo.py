"""A log in; for each suspicious line the technique, the severity and the next step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.core.text_files import byte_order_mark
from tinyslm.evaluation.graders import first_json
from tinyslm.packs.pack import Answerer, Demonstration
from tinyslm.packs.security import technique, triage
from tinyslm.packs.security.attack import NONE

LONGEST_LINE = 1_000
"""Characters of a line that are read; the rest is skipped."""
MOST_KINDS = 1_000
"""Kinds of lines that a model is asked about: lines that differ only in digits are of one kind."""


@dataclass
class Kind:
    """Lines that differ only in digits: the number and the text of the first one, and how many there are."""

    number: int
    text: str
    count: int = 1


def triage_log(file: Path, request: str, answer: Answerer, out: Path | None) -> Demonstration:
    """See `Demo`: a log is read line by line, at any size; `out` gets a JSON object for each suspicious kind."""
    if request:
        raise TinyslmError("The demo of security takes no request.", "Give only the log: every line is looked at.")
    kinds, lines, beyond = _read(file)
    asked = [{**row, "skill": "technique"} for row in (_technique_row(one.text) for one in kinds)]
    named = answer(asked) if asked else []
    suspicious = [(kind, name) for kind, name in zip(kinds, named, strict=True) if name.strip() != NONE]
    rows = [{**_triage_row(kind.text), "skill": "triage"} for kind, _ in suspicious]
    verdicts = [_read_verdict(text) for text in (answer(rows) if rows else [])]
    found: list[dict[str, Any]] = [
        {"line": kind.number, "lines": kind.count, "technique": name.strip(), **verdict, "text": kind.text}
        for (kind, name), verdict in zip(suspicious, verdicts, strict=True)
    ]
    reported = [
        f"line {one['line']:,} ({one['lines']:,} like it): {one['technique']}, severity {one['severity']}, "
        f"{one['next_step']}\n    {one['text'][:160]}"
        for one in found
    ]
    reported.append(f"{lines:,} lines of {len(kinds):,} kinds; {len(found):,} kinds are suspicious.")
    if beyond:
        reported.append(f"{beyond:,} lines of further kinds were not looked at: split the log, or filter it first.")
    if out is not None:
        write_atomic(out, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found))
    return Demonstration(reported, {"lines": lines, "not_looked_at": beyond, "suspicious": found}, out)


def _technique_row(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": technique.ASKED + text}]}


def _triage_row(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": triage.ASKED + text}]}


def _read_verdict(text: str) -> dict[str, Any]:
    """The severity, next step and entities of an answer; "?" for those that it does not state."""
    try:
        said = json.loads(first_json(text))
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, Mapping) else {}
    return {
        "severity": said.get("severity", "?"),
        "next_step": said.get("next_step", "?"),
        "entities": said.get("entities", {}),
    }


def _read(file: Path) -> tuple[list[Kind], int, int]:
    """The kinds of lines of a log, how many lines it has, and how many of them are of kinds beyond `MOST_KINDS`."""
    kinds: dict[str, Kind] = {}
    lines = beyond = 0
    for text in _lines(file):
        lines += 1
        shape = re.sub(r"\d+", "0", text)
        if shape in kinds:
            kinds[shape].count += 1
        elif len(kinds) < MOST_KINDS:
            kinds[shape] = Kind(lines, text)
        else:
            beyond += 1
    if not lines:
        raise TinyslmError(f"{file} has no lines.", "Give a log file with one event a line.")
    return list(kinds.values()), lines, beyond


def _lines(file: Path) -> Iterator[str]:
    """The lines of a file that are not blank, each at most `LONGEST_LINE` characters, with little memory."""
    try:
        with file.open("rb") as stream:
            encoding = byte_order_mark(stream.read(4))[0] or "utf-8"
        with file.open(encoding=encoding, errors="replace") as stream:
            whole = True
            while text := stream.readline(LONGEST_LINE):
                first, whole = whole, text.endswith("\n")
                if first and "\0" in text:
                    raise TinyslmError(f"{file} is not a text file.", "Give a log file with one event a line.")
                if first and text.strip():
                    yield text.strip().removeprefix("\ufeff")
    except OSError as error:
        raise TinyslmError(f"Could not read {file}: {error.strerror}.", "Give a log file.") from None
