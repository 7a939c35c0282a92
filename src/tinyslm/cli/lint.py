"""`tinyslm data lint`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from tinyslm.data.lint.check import Report

ERRORS = 1
"""Exit code if there are findings of the severity error."""


def lint(
    *data: str,
    model: Path | None = None,
    valid: tuple[str, ...] = (),
    against: tuple[str, ...] = (),
    map_: Annotated[tuple[str, ...], Parameter(name="--map")] = (),
    show: int = 2,
    html: Path | None = None,
    json: bool = False,
) -> None:
    """Check examples for fine-tuning, and show what the model will see of them: each token, learned or not.

    Exits with code 1 if there are errors, such as rows that cannot be used or a template that never ends an answer.

    Parameters
    ----------
    data
        Files of rows, as for `tinyslm finetune`.
    model
        A model folder, or a run folder (its model is used), for the checks of its chat template and context.
    valid
        Files of rows to validate on: do they occur in the data?
    against
        Files of evaluations: do they occur in the data? Every text in their rows counts. Can be repeated.
    map_
        Names of the rows' fields, as prompt=NAME,answer=NAME; also system and context.
    show
        How many examples to show token by token; needs a model.
    html
        Also write the findings and more examples to this HTML file, which needs no server.
    json
        Print the findings as JSON.
    """
    from tinyslm.cli.finetune import fields_of
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.files import write_atomic
    from tinyslm.data.lint.page import lint_page
    from tinyslm.planning.linting import lint_data

    if not data:
        raise TinyslmError("No examples were given.", "For instance: tinyslm data lint rows.jsonl --model MODEL")
    if html is not None and html.exists():
        raise TinyslmError(f"{html} exists already.", "Give another name: nothing is written over.")
    with working("Checking the data", json=json, unit=lambda rows: f"{rows:,.0f} rows") as progress:
        report = lint_data(data, model, valid=valid, against=against, fields=fields_of(map_), progress=progress)
    if html is not None:
        write_atomic(html, lint_page(report, ", ".join(Path(one).name for one in data)))
    if json:
        tell({"rows": report.rows, "findings": [asdict(finding) for finding in report.findings], "page": html})
    else:
        _say(report, show, html)
    if report.of("error"):
        sys.exit(ERRORS)


def _say(report: Report, show: int, page: Path | None) -> None:
    """Print the examples, then the findings."""
    from tinyslm.core.console import say, say_styled
    from tinyslm.core.quantities import counted
    from tinyslm.data.lint.check import SEVERITIES
    from tinyslm.data.lint.page import shown_examples, styled

    examples = shown_examples(report, show)
    if examples:
        say_styled(
            [("\n", ""), ("learned tokens", "strong"), (", and ", ""), ("others, which the model only reads", "faint")]
        )
    for place, tokens in examples:
        say(f"\n{place}")
        say_styled(styled(tokens))
    for finding in report.findings:
        say_styled([("\n" + finding.severity, finding.severity), (f"  {finding}  ({finding.check})", "")])
        for hit in finding.places:
            say(f"  {hit}")
        if finding.count > len(finding.places):
            say(f"  and {finding.count - len(finding.places):,} more")
        say(f"  {finding.remedy}")
    kinds = [(len(report.of(name)), name) for name in SEVERITIES]
    counts = ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in kinds if count)
    say(f"\n{counted(report.rows, 'row')}: {counts or 'nothing was found'}.")
    if page is not None:
        say(f"Page: {page}")
