"""`response_format`: what the answer must look like, as a grammar."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.serving.errors import bad_request
from tinyslm.serving.shapes.body import ChoiceFormat, JsonObjectFormat, LarkFormat, Part, RegexFormat, TextFormat

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Grammar
    from tinyslm.serving.models import Served


def grammar_of(asked: Part | None, served: Served, param: str = "response_format") -> Grammar | None:
    """The grammar of a response format; `None` for any text. Raises `ApiError` for one that cannot be followed."""
    if asked is None or isinstance(asked, TextFormat):
        return None
    key = f"{asked.__class__.__name__} {json.dumps(asked.model_dump(by_alias=True))}"
    return kept_grammar(served, key, _compiler(asked, served), param)


def kept_grammar(served: Served, key: str, compiled: Callable[[], Grammar | None], param: str) -> Grammar | None:
    """The grammar cached under `key`. Raises `NewGrammar` if `compiled` has to be called first.

    Mistakes in the grammar become errors of the request's field `param`.
    """

    def checked() -> Grammar | None:
        try:
            return compiled()
        except TinyslmError as error:
            raise bad_request(f"{error.problem} {error.remedy}", param) from error

    return served.grammars.get(key, checked)


def _compiler(asked: Part, served: Served) -> Callable[[], Grammar]:
    from tinyslm.inference.grammar import Grammar

    tokenizer = served.engine.tokenizer
    match asked:
        case JsonObjectFormat():
            return lambda: Grammar.json_object(tokenizer)
        case RegexFormat(pattern=pattern):
            return lambda: Grammar.regex(pattern, tokenizer)
        case ChoiceFormat(choices=choices):
            return lambda: Grammar.choices(choices, tokenizer)
        case LarkFormat(grammar=text):
            return lambda: Grammar.lark(text, tokenizer)
    schema = _schema(asked)
    return lambda: Grammar.json_schema(schema, tokenizer)


def _schema(asked: Part) -> Mapping[str, Any] | bool:
    """The JSON schema, wherever this API's form of it has it."""
    inner: Any = getattr(asked, "json_schema", asked)
    schema: Mapping[str, Any] | bool = inner.schema_
    return schema
