"""Constraints on generated text: a JSON schema, a regular expression, a list of choices or a Lark grammar."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinyslm.core.errors import TinyslmError
from tinyslm.core.text_files import read_small_text

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar
    from tinyslm.inference.request import Completion, Request
    from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class OutputConstraint:
    """`value`: the JSON schema, the regular expression, the list of choices, or the text of the Lark grammar."""

    kind: Literal["schema", "regex", "choice", "grammar"]
    value: Any

    @property
    def fields(self) -> tuple[str, ...]:
        """The properties that the schema of an object names, in order; empty for other constraints."""
        properties = self.value.get("properties") if isinstance(self.value, Mapping) else None
        return tuple(properties) if isinstance(properties, Mapping) else ()

    @property
    def key(self) -> str:
        """The constraint as JSON: a cache key."""
        return json.dumps([self.kind, self.value])

    def compile(self, tokenizer: Tokenizer) -> Grammar:
        """The grammar for a tokenizer. Raises `TinyslmError` for a constraint that is invalid or unsupported."""
        from tinyslm.inference.grammar import Grammar

        compilers: dict[str, Callable[[Any, Tokenizer], Grammar]] = {
            "schema": Grammar.json_schema,
            "regex": Grammar.regex,
            "choice": Grammar.choices,
            "grammar": Grammar.lark,
        }
        return compilers[self.kind](self.value, tokenizer)


def is_complete(request: Request, completion: Completion) -> bool:
    """Whether a text satisfies the grammar of its request: not if it was cut off, or finished as "invalid"."""
    if completion.finish == "invalid":
        return False
    if request.grammar is None or (completion.finish == "stop" and not request.settings.stop):
        return True
    matcher = request.grammar.matcher(continues=request.continues)
    return matcher.take(completion.ids) == len(completion.ids) and matcher.accepts


def constraint_from_options(
    *, schema: str | None = None, regex: str | None = None, choices: tuple[str, ...] = (), grammar: str | None = None
) -> OutputConstraint | None:
    """The constraint that command-line options ask for; `None` if none is given.

    schema: a file or JSON text. grammar: a file. Raises `TinyslmError` if several are given, if one is empty, and for
    files that cannot be read.
    """
    options = {"schema": schema, "regex": regex, "choice": list(choices) or None, "grammar": grammar}
    given = {name: value for name, value in options.items() if value is not None}
    if len(given) > 1:
        names = [f"--{name}" for name in given]
        raise TinyslmError(f"{' and '.join(names)} exclude each other.", f"Give only one of {', '.join(names)}.")
    for name, value in given.items():
        if not all([value] if isinstance(value, str) else value):
            raise TinyslmError(f"The value of --{name} is empty.", "Say what the text must look like, or omit it.")
    if schema:
        return OutputConstraint("schema", read_schema(schema))
    if regex:
        return OutputConstraint("regex", regex)
    if choices:
        return OutputConstraint("choice", list(choices))
    return OutputConstraint("grammar", read_small_text(Path(grammar), "--grammar")) if grammar else None


def read_schema(given: str) -> dict[str, Any]:
    """A JSON schema from JSON text, which begins with a brace, or from the file of that name."""
    inline = given.lstrip().startswith("{")
    text = given if inline else read_small_text(Path(given), "--schema")
    name = "The schema" if inline else given
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TinyslmError(f"{name} is not valid JSON ({error}).", "Correct it.") from None
    if not isinstance(schema, dict):
        raise TinyslmError(f"{name} is not a JSON object.", 'Example of a schema: {"type": "object"}')
    return schema
