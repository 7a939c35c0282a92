"""Read examples, tokenize them if a model is given, and run every check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation, read_conversations, rows_of
from tinyslm.data.examples import Example, examples_of
from tinyslm.data.lint import CHECKS
from tinyslm.data.lint.check import PLACES, SEVERITIES, Encoding, Examples, Finding, Hit, Report
from tinyslm.tokenizer.tokenizer import Tokenizer

Progress = Callable[[str, int, int], None]
EVERY = 256
"""Conversations between two reports of progress."""
THREADS = 2
"""One thread tokenizes while the other waits for the process that renders the chat template."""


def read_examples(
    paths: Sequence[str | Path],
    valid: Sequence[str | Path] = (),
    against: Sequence[str | Path] = (),
    fields: Mapping[str, str] | None = None,
    *,
    answered: bool = True,
) -> Examples:
    """Read every row; `unreadable` lists those that cannot be used. answered: whether rows need an answer.

    Raises `TinyslmError` for files that cannot be read.
    """
    unreadable: list[Hit] = []

    def skip(place: str, problem: str) -> None:
        reason = problem.removeprefix(f"{place} ").removeprefix("cannot be used: ").removeprefix("cannot be read: ")
        unreadable.append(Hit(place, reason.rstrip(".")))

    train, held_out = (list(read_conversations(files, fields, skip, answered=answered)) for files in (paths, valid))
    asked = [(place, "\n".join(_texts(row))) for path in against for place, row in rows_of(Path(path), skip)]
    return Examples(train, held_out, asked, unreadable)


def encode(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    context: int,
    rows: Iterable[int] | None = None,
    progress: Progress = lambda *_: None,
) -> Encoding:
    """Tokenize the conversations, or those with the indices `rows`, as fine-tuning does.

    progress: called with (label, number done, total).
    """
    chosen = list(range(len(conversations)) if rows is None else rows)
    examples: dict[int, Sequence[Example]] = {}
    failures = []

    def attempt(row: int) -> Sequence[Example] | TinyslmError:
        try:
            return examples_of(conversations[row], tokenizer)
        except TinyslmError as error:
            return error

    with ThreadPoolExecutor(THREADS) as threads:
        for done in range(0, len(chosen), EVERY):
            part = chosen[done : done + EVERY]
            for row, result in zip(part, threads.map(attempt, part), strict=True):
                if isinstance(result, TinyslmError):
                    failures.append(Hit(conversations[row].place, result.problem.rstrip(".")))
                else:
                    examples[row] = result
            progress("tokenizing", done + len(part), len(chosen))
    return Encoding(tokenizer, context, examples, failures)


def run_checks(examples: Examples) -> Report:
    """Run every check. The findings are ordered by severity, then as in `CHECKS`."""
    findings = []
    for name in CHECKS:
        check = CHECKS[name]
        if hits := list(check.find(examples)):
            findings.append(Finding(name, check.severity, check.title, len(hits), hits[:PLACES], check.remedy))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(len(examples.conversations) + len(examples.unreadable), findings, examples)


def _texts(value: Any) -> Iterator[str]:
    """Yield every string in a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inside in value.values():
            yield from _texts(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from _texts(inside)
