"""What is written for a row that was answered, or could not be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyslm.serving.automation.answering import Answer
from tinyslm.serving.automation.form import Form, is_whole
from tinyslm.serving.automation.rows import Row

Result = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A row and what is written for it, whether that is an error, and the tokens of its prompt and its answer."""

    row: Row
    result: Result
    failed: bool
    prompt_tokens: int = 0
    tokens: int = 0


def result_of(answer: Answer[Any], form: Form | None) -> Result:
    """`text`, `value` (with a schema: what the text says), `finish`, token counts and `error` (`None`: there is none).

    A text that does not have the form that was asked for, because it was cut off or repeats items, is an error.
    """
    only = answer.completions[0] if answer.completions else None
    error, value = answer.problem or None, None
    if only is not None and answer.request is not None and form is not None:
        if not is_whole(answer.request, only):
            error = f"the answer was cut off after {only.tokens} tokens, before it had its form"
            if only.finish == "invalid":
                error = "the answer repeats items, which the schema forbids (uniqueItems)"
        else:
            value = form.read(only.text)
    return {
        "text": only.text if only else None,
        **({"value": value} if form is not None and form.kind == "schema" else {}),
        "finish": only.finish if only else None,
        "prompt_tokens": answer.usage.prompt_tokens,
        "tokens": answer.usage.generated_tokens,
        "error": error,
    }


def kept(values: Mapping[str, Any], names: tuple[str, ...]) -> Result:
    """The columns of a row that go with its result; `*` keeps all."""
    chosen = values if "*" in names else {name: values.get(name) for name in names}
    return {str(name): _plain(value) for name, value in chosen.items()}


def _plain(value: Any) -> Any:
    """A value as JSON has it: what it does not know, such as dates, becomes text; what is no number, nothing."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
