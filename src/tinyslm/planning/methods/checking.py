"""Read and check the examples of a job before they are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation, read_conversations
from tinyslm.data.lint.check import Encoding, Examples, Finding
from tinyslm.data.lint.linting import encode, read_examples, run_checks
from tinyslm.data.lint.template import sampled
from tinyslm.model.folder import read_model_config
from tinyslm.planning.methods.method import Job
from tinyslm.tokenizer.losses import losses, refuse
from tinyslm.tokenizer.tokenizer import Tokenizer

SAMPLED = 32
"""Number of conversations to tokenize for the checks; fine-tuning tokenizes all of them afterwards."""


def checked_examples(job: Job, *, answered: bool = True) -> Examples:
    """Read the examples of a job, and check them as `files.lint` says: report warnings, and raise errors.

    answered: whether rows need answers; if so, a sample is tokenized. Raises `TinyslmError` for errors.
    """
    examples = _checked(job, answered)
    _check_losses(job, [*examples.conversations, *examples.valid])
    return examples


def _check_losses(job: Job, conversations: Sequence[Conversation]) -> None:
    """Report what the tokenizer loses of the messages; raise `TinyslmError` unless the settings accept that."""
    texts = (str(message.get("content") or "") for one in conversations for message in one.messages)
    found = losses(job.tokenizer, ((text, job.tokenizer.encode(text)) for text in texts))
    if not job.config.data.lossy:
        refuse(found)
    elif found.changed:
        job.watch.notify(f"The tokenizer loses text: {found}.")


def _checked(job: Job, answered: bool) -> Examples:
    files = job.files
    if files.lint == "off":
        train, valid = (
            list(read_conversations(paths, files.fields, answered=answered)) for paths in (files.paths, files.valid)
        )
        return Examples(train, valid)
    examples = read_examples(files.paths, files.valid, fields=files.fields, answered=answered)
    if not examples.conversations:
        next(read_conversations(files.paths, files.fields, answered=answered), None)  # the error of the first row
    encoding = _sample(examples, job.tokenizer, job.base) if answered else None
    report = run_checks(replace(examples, encoding=encoding))
    for finding in report.findings:
        if finding.check == "too-long":
            continue  # of a sample; when all rows are tokenized, those that are skipped are counted
        if finding.severity == "warning" or (finding.severity == "error" and files.lint == "warn"):
            job.watch.notify(brief(finding))
    if (errors := report.of("error")) and files.lint == "error":
        more = f" There are {len(errors) - 1} more kinds of errors." if len(errors) > 1 else ""
        raise TinyslmError(
            f"{brief(errors[0])}.{more}",
            f"{errors[0].remedy.rstrip('.')}. For all findings: tinyslm data lint. To train nevertheless: --lint warn",
        )
    return examples


def _sample(examples: Examples, tokenizer: Tokenizer, base: Path) -> Encoding:
    rows = sampled(examples.conversations, SAMPLED)
    return encode(examples.conversations, tokenizer, read_model_config(base).longest, rows)


def brief(finding: Finding) -> str:
    """A finding on one line, with its first place."""
    return f"{finding} ({finding.places[0]})"
