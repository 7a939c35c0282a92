"""From rows to requests: the prompt template, and the settings and constraint that a row may bring."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.data.rows import Row
from tinyslm.inference.engine import Engine
from tinyslm.inference.output_constraint import OutputConstraint, read_schema
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings

SEEDS = 2**63
CACHED_GRAMMARS = 64
"""Compiled grammars that are cached: rows that bring their own schema often bring the same one."""

Message = Mapping[str, Any]


class MissingColumn(TinyslmError):
    """A row lacks a column that the template needs."""


@dataclass(frozen=True)
class PromptTemplate:
    """How rows become requests.

    template: Jinja over the row's columns. column: the one that is the prompt. Without both, the row is a request
    itself: it has "messages" or a "prompt", and may have a "system" text, sampling settings, and a "schema", "regex"
    or "choice"; or its "text" is the prompt. system: a system message before each prompt. chat: a prompt is a user's
    message, to be answered rather than continued (implied by a system message). constraint: of every answer. sampling:
    fields that are not given are the model's defaults, except that a schema sets the temperature to 0; row `i` (from 0
    on) uses `seed + i`. heal: see `Request`.
    """

    template: str = ""
    column: str = ""
    system: str = ""
    chat: bool = False
    constraint: OutputConstraint | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    heal: bool = True

    def __post_init__(self) -> None:
        if self.template and self.column:
            raise TinyslmError("--template and --column exclude each other.", "Give one of them.")

    def as_json(self) -> dict[str, Any]:
        """Everything that decides the answers besides the model and the rows."""
        constraint = self.constraint.key if self.constraint else None
        sampling = self.sampling.model_dump(mode="json", exclude_unset=True)
        return asdict(self) | {"constraint": constraint, "sampling": sampling}

    def for_attempt(self, attempt: int) -> PromptTemplate:
        """The same template with other seeds, for another attempt at rows that failed."""
        seed = self.sampling.seed
        if seed is None or not attempt:
            return self
        return replace(self, sampling=self.sampling.model_copy(update={"seed": (seed + (attempt << 32)) % SEEDS}))


@dataclass(frozen=True)
class RowRequest:
    """The request of a row: a text to continue or messages to answer, its settings and its constraint."""

    prompt: str | list[Message]
    settings: SamplingSettings
    constraint: OutputConstraint | None


class RowReader:
    """Converts rows to requests, for any generator."""

    def __init__(self, template: PromptTemplate, defaults: SamplingSettings) -> None:
        """defaults: the template's settings over the model's. Raises `TinyslmError` if the template is invalid."""
        self._template, self._defaults = template, defaults
        self._render = _compile_template(template.template) if template.template else None

    def read(self, row: Row) -> RowRequest:
        """The request of a row. Raises `TinyslmError` for a row that is not a valid request."""
        template = self._template
        is_request = not (template.template or template.column) and not row.values.keys().isdisjoint(
            ("messages", "prompt")
        )
        own = row.values if is_request else {}
        constraint = _own_constraint(own) or template.constraint
        defaults = self._defaults
        if constraint and constraint.kind == "schema" and "temperature" not in template.sampling.model_fields_set:
            defaults = defaults.model_copy(update={"temperature": 0.0})
        settings = _row_settings(defaults, own, row.number - 1)
        prompt = self._prompt(row.values)
        system = template.system if own.get("system") is None else _text(own["system"], "system")
        if isinstance(prompt, str) and not (template.chat or system):
            return RowRequest(prompt, settings, constraint)
        messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if system:
            messages = [{"role": "system", "content": system}, *messages]
        return RowRequest(messages, settings, constraint)

    def _prompt(self, values: Mapping[str, Any]) -> str | list[Message]:
        if self._render is not None:
            return self._render(values)
        column = self._template.column
        if not column and "messages" in values:
            return _messages(values["messages"])
        if not column:
            column = next((name for name in ("prompt", "text") if name in values), "")
        if column not in values:
            missing = f'"{column}"' if column else '"prompt", "messages" or "text"'
            suggestion = did_you_mean(column, map(str, values)) if column else ""
            raise MissingColumn(
                f"The row has no {missing}; its columns: {', '.join(map(str, values))}.",
                suggestion or "Give --template TEXT or --column NAME.",
            )
        return _text(values[column], column)


class RequestBuilder:
    """Builds the requests of rows for one engine."""

    def __init__(self, engine: Engine, template: PromptTemplate) -> None:
        """Compile the template and the grammar; raises `TinyslmError` if either is invalid."""
        self._engine, self._heal = engine, template.heal
        self._reader = RowReader(template, engine.with_defaults(template.sampling))
        self._grammar = lru_cache(CACHED_GRAMMARS)(
            lambda key: OutputConstraint(*json.loads(key)).compile(engine.tokenizer)
        )
        if template.constraint is not None:
            self._grammar(template.constraint.key)

    def build(self, row: Row) -> tuple[OutputConstraint | None, Request]:
        """The constraint and the request of a row. Raises `TinyslmError` for a row that is not a valid request."""
        request = self._reader.read(row)
        constraint, settings = request.constraint, request.settings
        grammar = self._grammar(constraint.key) if constraint else None
        if isinstance(request.prompt, str):
            ids = self._engine.prompt_ids(request.prompt)
            continues = len(ids) > len(self._engine.tokenizer.start_ids)
            return constraint, Request(ids, settings, grammar=grammar, continues=continues, heal=self._heal)
        ids = self._engine.chat_ids(request.prompt)
        return constraint, Request(ids, settings, grammar=grammar, continues=False)


def _compile_template(template: str) -> Callable[[Mapping[str, Any]], str]:
    """A template as a function of a row's columns, which are data: they are never parsed as templates themselves."""
    from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)  # removes one newline at the end
    try:
        compiled = environment.from_string(template)
    except TemplateSyntaxError as error:
        raise TinyslmError(
            f"The template is not valid Jinja: {(error.message or '').rstrip('.')} (line {error.lineno}).",
            "Correct it; a column is written as {{ name }}.",
        ) from None

    def render(values: Mapping[str, Any]) -> str:
        try:
            return compiled.render({**values, "row": values})
        except UndefinedError as error:
            columns = ", ".join(map(str, values))
            raise MissingColumn(
                f"The template uses a name that the row does not have: {error.message}.", f"Its columns: {columns}."
            ) from None
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError) as error:
            raise TinyslmError(f"The template failed: {str(error).rstrip('.')}.", "Correct it.") from None

    return render


def _row_settings(defaults: SamplingSettings, own: Mapping[str, Any], index: int) -> SamplingSettings:
    """The settings of the row at `index`: its own, and a seed of its own if the defaults have one."""
    changes = {name: own[name] for name in SamplingSettings.model_fields if own.get(name) not in (None, "")}
    if isinstance(changes.get("stop"), str):
        changes["stop"] = (changes["stop"],)
    if defaults.seed is not None:
        changes = {"seed": (defaults.seed + index) % SEEDS, **changes}
    if not changes:
        return defaults
    return build_config(SamplingSettings, {**defaults.model_dump(), **changes}, origin="the row")


def _own_constraint(values: Mapping[str, Any]) -> OutputConstraint | None:
    """The constraint that a row brings. Raises `TinyslmError` for several, and for one of the wrong type."""
    given = {name: values[name] for name in ("schema", "regex", "choice") if values.get(name) not in (None, "")}
    if len(given) > 1:
        raise TinyslmError(f"The row has a {' and a '.join(given)}.", "Give one of them.")
    match given:
        case {"schema": str(text)} if text.lstrip().startswith("{"):  # a row cannot name a file
            return OutputConstraint("schema", read_schema(text))
        case {"schema": Mapping() as schema}:
            return OutputConstraint("schema", dict(schema))
        case {"regex": str(pattern)}:
            return OutputConstraint("regex", pattern)
        case {"choice": list(choices)}:
            return OutputConstraint("choice", choices)
    for name in given:
        expected = {"schema": "a JSON object", "regex": "text", "choice": "a list of texts"}[name]
        raise TinyslmError(f"The row's {name} is not {expected}.", "Correct the row.")
    return None


def _text(value: Any, column: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise TinyslmError(f'The row\'s "{column}" is not text.', "Give text there, or use --template.")


def _messages(value: Any) -> list[Message]:
    if isinstance(value, list) and value and all(isinstance(message, Mapping) for message in value):
        return value
    raise TinyslmError('The row\'s "messages" is not a list of messages.', 'Give [{"role": "user", "content": "..."}].')
