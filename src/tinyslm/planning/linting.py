"""`lint_data`: check examples for fine-tuning, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.data.lint.check import Encoding, Hit, Report
from tinyslm.data.lint.linting import Progress, encode, read_examples, run_checks
from tinyslm.model.folder import find_model, load_tokenizer, read_model_config
from tinyslm.tokenizer.chat import chat_tokenizer


def lint_data(
    data: Sequence[str | Path],
    model: str | Path | None = None,
    *,
    valid: Sequence[str | Path] = (),
    against: Sequence[str | Path] = (),
    fields: Mapping[str, str] | None = None,
    progress: Progress = lambda *_: None,
) -> Report:
    """Check examples for fine-tuning, and return the findings.

    data: files of examples. model: a model folder or run folder, for the checks of tokens. valid: files to validate on.
    against: evaluation files; their text in all fields is compared with the examples. fields: names of the rows'
    fields, as for `finetune`. progress: called with (label, rows done, total rows).

    Raises `TinyslmError` for files or a model that cannot be read.
    """
    if fields and not any(
        needed <= fields.keys() for needed in ({"prompt", "answer"}, {"prompt", "chosen", "rejected"})
    ):
        raise TinyslmError(
            "The fields of prompt and answer were not all named.", "For instance: --map prompt=Request,answer=Formula"
        )
    examples = read_examples(data, valid, against, fields)
    for paths, rows in ((data, [*examples.conversations, *examples.unreadable]), (valid, examples.valid)):
        if paths and not rows:
            raise TinyslmError(f"There are no rows in {', '.join(map(str, paths))}.", "Check the path.")
    if model is None:
        return run_checks(examples)
    base = find_model(Path(model))
    tokenizer, context = load_tokenizer(base), read_model_config(base).longest
    try:
        tokenizer = chat_tokenizer(tokenizer, base, lambda text: None)
    except TinyslmError as error:
        return run_checks(replace(examples, encoding=Encoding(tokenizer, context, {}, [Hit(base.name, error.problem)])))
    encoding = encode(examples.conversations, tokenizer, context, progress=progress)
    return run_checks(replace(examples, encoding=encoding))
