"""What a generated text must look like, as asked for by options or by a row, and how it is read again."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.text_files import read_small_text

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar
    from tinyslm.inference.request import Completion, Request
    from tinyslm.tokenizer.tokenizer import Tokenizer

MOST_KEPT = 64
"""Compiled grammars that are kept for further rows: rows that bring their own schema often bring the same one."""


@dataclass(frozen=True)
class Form:
    """A kind ("schema", "regex", "choice" or "grammar") and what it says: a JSON schema, an expression, texts, Lark."""

    kind: str
    value: Any

    @property
    def fields(self) -> tuple[str, ...]:
        """The properties that a schema of an object names, in its order; none otherwise."""
        properties = self.value.get("properties") if isinstance(self.value, Mapping) else None
        return tuple(properties) if isinstance(properties, Mapping) else ()

    @property
    def key(self) -> str:
        """Equal for equal forms."""
        return json.dumps([self.kind, self.value])

    def compile(self, tokenizer: Tokenizer) -> Grammar:
        """The grammar for a tokenizer. Raises `TinyslmError` for one that cannot be used."""
        from tinyslm.inference.grammar import Grammar

        match self.kind:
            case "schema":
                return Grammar.json_schema(self.value, tokenizer)
            case "regex":
                return Grammar.regex(self.value, tokenizer)
            case "choice":
                return Grammar.choices(self.value, tokenizer)
            case _:
                return Grammar.lark(self.value, tokenizer)

    def read(self, text: str) -> Any:
        """The value that a finished text stands for; texts stand for themselves where there is no schema."""
        return json.loads(text) if self.kind == "schema" else text


class Grammars:
    """Compiles forms for one tokenizer, the same one only once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[str, Grammar] = OrderedDict()

    def __call__(self, form: Form) -> Grammar:
        """The grammar of a form."""
        key = form.key
        if key not in self._compiled:
            self._compiled[key] = form.compile(self._tokenizer)
            if len(self._compiled) > MOST_KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]


def is_whole(request: Request, completion: Completion) -> bool:
    """Whether a text has the form that its request asked for: not where it was cut off, or is invalid."""
    if completion.finish == "invalid":
        return False
    if request.grammar is None or (completion.finish == "stop" and not request.settings.stop):
        return True
    matcher = request.grammar.matcher(continues=request.continues)
    return matcher.take(completion.ids) == len(completion.ids) and matcher.accepts


def form_of(
    *, schema: str | None = None, regex: str | None = None, choices: tuple[str, ...] = (), grammar: str | None = None
) -> Form | None:
    """The form that options ask for: `schema` is a file or JSON text, `grammar` a Lark file; `None` without any.

    Raises `TinyslmError` for several at once, for empty ones, and for files that cannot be read.
    """
    options = {"schema": schema, "regex": regex, "choice": choices or None, "grammar": grammar}
    given = {name: value for name, value in options.items() if value is not None}
    if len(given) > 1:
        raise TinyslmError(
            f"The text was to follow a {' and a '.join(given)}.", f"Give only one of --{', --'.join(given)}."
        )
    for name, value in given.items():
        if not all([value] if isinstance(value, str) else value):
            raise TinyslmError(f"The --{name} given is empty.", "Say what the text must look like, or leave it out.")
    if schema:
        return Form("schema", read_schema(schema))
    if regex:
        return Form("regex", regex)
    if choices:
        return Form("choice", list(choices))
    return Form("grammar", read_small_text(Path(grammar), "--grammar")) if grammar else None


def read_schema(given: str) -> dict[str, Any]:
    """A JSON schema from the file of that name, or from the text itself if it begins with a brace."""
    inline = given.lstrip().startswith("{")
    text = given if inline else read_small_text(Path(given), "--schema")
    name = "The schema given" if inline else given
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TinyslmError(f"{name} is not valid JSON ({error}).", "Correct it.") from None
    if not isinstance(schema, dict):
        raise TinyslmError(f"{name} is no JSON schema: it is no object.", 'For instance: {"type": "object"}')
    return schema
