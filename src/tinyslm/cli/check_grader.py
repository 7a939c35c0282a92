"""`tinyslm data check-grader`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from tinyslm.evaluation.grader_check import GraderReport

MOST = 50
"""The default number of rows to try."""


def check_grader(
    grader: str,
    /,
    *rows: str,
    map_: Annotated[tuple[str, ...], Parameter(name="--map")] = (),
    limit: int = MOST,
    json: bool = False,
) -> None:
    """Try a grader on answers that cannot be right, before a model learns from its scores.

    Each row is answered with its reference, nothing, a constant, the question, a repeated word, and other answers that
    reinforcement learning would find. Exit code 1 if the grader fails, or scores such answers as high as right ones.

    Parameters
    ----------
    grader
        The name of a grader, or FILE.py:FUNCTION.
    rows
        Files of rows, as for `tinyslm finetune`; those with an answer are the most useful.
    map_
        Names of the rows' fields, as prompt=NAME,answer=NAME.
    limit
        How many rows to try it on, from the first on.
    json
        Print the report as JSON.
    """
    from dataclasses import asdict
    from itertools import islice

    from tinyslm.cli.finetune import fields_of
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.errors import TinyslmError
    from tinyslm.data.conversations import read_conversations
    from tinyslm.data.prompts import graded_fields
    from tinyslm.evaluation.grader_check import check_grader as check
    from tinyslm.evaluation.graders import find_grader

    found = find_grader(grader)
    if not rows:
        raise TinyslmError("No rows were given.", f"For instance: tinyslm data check-grader {grader} rows.jsonl")
    conversations = read_conversations(rows, fields_of(map_), answered=False)
    with working("Trying the grader", json=json):
        report = check(found, [graded_fields(one) for one in islice(conversations, limit)])
    if json:
        tell(asdict(report))
    else:
        _say(report)
    if any(problem.severity == "error" for problem in report.problems):
        raise SystemExit(1)


def _say(report: GraderReport) -> None:
    from tinyslm.core.console import say

    say(f"{'answer':<20} {'score':>6} {'rows':>5} {'failed':>7} {'ms each':>8}")
    for one in report.tried:
        say(f"{one.kind:<20} {one.score:>6.2f} {one.examples:>5} {one.failed:>7} {1000 * one.seconds:>8.1f}")
    for problem in report.problems:
        say(f"\n{problem.severity}: {problem.text}")
    if not report.problems:
        say("\nNo problems found.")
