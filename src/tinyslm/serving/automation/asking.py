"""From a row to a request: its template, its messages, and what it says about how to be answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.automation.form import Form, Grammars, read_schema
from tinyslm.serving.automation.rows import Row

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine

TOP_SEED = 2**63


class NoSuchColumn(TinyslmError):
    """A row lacks what every row was to have."""


@dataclass(frozen=True)
class Asking:
    """What every row has in common.

    template: Jinja over the row's columns; column: the one that is the prompt. Without both, the row is a request
    itself: it has "messages" or a "prompt", and may have a "system" text, settings of its own, and a "schema", "regex"
    or "choice"; or its "text" is the prompt. system: a message before each; chat: a prompt is a user's message,
    to be answered rather than continued (always so with a system message). form: what answers look like. settings:
    fields that are not given are the model's defaults, except that with a schema the temperature is 0. Row `i` (from 0
    on) draws with `seed + i`. heal: see `Request`.
    """

    template: str = ""
    column: str = ""
    system: str = ""
    chat: bool = False
    form: Form | None = None
    settings: SamplingSettings = field(default_factory=SamplingSettings)
    heal: bool = True

    def __post_init__(self) -> None:
        """Refuse what excludes another."""
        if self.template and self.column:
            raise TinyslmError("Both a template and a column were given.", "Give one of --template and --column.")


class Asker:
    """Makes requests of rows, for one engine."""

    def __init__(self, engine: Engine, asking: Asking) -> None:
        """Compile what can be compiled beforehand; raises `TinyslmError` for what cannot be used."""
        self._engine = engine
        self._asking = asking
        self._common = engine.with_defaults(asking.settings)
        self._grammars = Grammars(engine.tokenizer)
        self._render = _renderer(asking.template) if asking.template else None
        if asking.form is not None:
            self._grammars(asking.form)

    def form(self, row: Row) -> Form | None:
        """What the row's answer is to look like."""
        return (_own_form(row.values) if self._own(row.values) else None) or self._asking.form

    def request(self, row: Row) -> Request:
        """The request that a row is. Raises `TinyslmError` for a row that cannot be one."""
        values, asking = row.values, self._asking
        own = values if self._own(values) else {}
        form = self.form(row)
        common = self._common
        if form is not None and form.kind == "schema" and "temperature" not in asking.settings.model_fields_set:
            common = common.model_copy(update={"temperature": 0.0})
        settings = _settings(common, own, row.number - 1)
        grammar = self._grammars(form) if form else None
        prompt = self._prompt(values)
        system = _text(own.get("system"), "system") if own.get("system") is not None else asking.system
        if isinstance(prompt, str) and not (asking.chat or system):
            ids = self._engine.prompt_ids(prompt)
            continues = len(ids) > len(self._engine.tokenizer.start_ids)
            return Request(ids, settings, grammar=grammar, continues=continues, heal=asking.heal)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if system:
            messages = [{"role": "system", "content": system}, *messages]
        return Request(self._engine.chat_ids(messages), settings, grammar=grammar, continues=False)

    def _own(self, values: Mapping[str, Any]) -> bool:
        """Whether the row is a request: its columns mean something by their names."""
        return not (self._asking.template or self._asking.column) and ("messages" in values or "prompt" in values)

    def _prompt(self, values: Mapping[str, Any]) -> str | list[Mapping[str, Any]]:
        """The text or the messages."""
        if self._render is not None:
            return self._render(values)
        column = self._asking.column
        if not column and "messages" in values:
            return _messages(values["messages"])
        if not column:
            column = next((name for name in ("prompt", "text") if name in values), "")
        if column not in values:
            missing = f'"{column}"' if column else '"prompt", "messages" or "text"'
            told = did_you_mean(column, map(str, values)) if column else ""
            remedy = told or "Say how a prompt is made of it: --template TEXT or --column NAME."
            raise NoSuchColumn(f"The row has no {missing}; its columns: {', '.join(map(str, values))}.", remedy)
        return _text(values[column], column)


def _renderer(template: str) -> Callable[[Mapping[str, Any]], str]:
    """A template as a function of a row. What rows hold is never read as a template itself."""
    from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)  # drops one line end at the end
    try:
        compiled = environment.from_string(template)
    except TemplateSyntaxError as error:
        raise TinyslmError(
            f"The template is not valid Jinja: {error.message} (line {error.lineno}).",
            "Correct it; a column is written as {{ name }}.",
        ) from None

    def render(values: Mapping[str, Any]) -> str:
        try:
            return compiled.render({**values, "row": values})
        except UndefinedError as error:
            raise NoSuchColumn(
                f"The template asks for what the row does not have: {error.message}.",
                f"Its columns: {', '.join(map(str, values))}.",
            ) from None
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError) as error:
            raise TinyslmError(f"The template failed: {str(error).rstrip('.')}.", "Correct it.") from None

    return render


def _settings(common: SamplingSettings, own: Mapping[str, Any], number: int) -> SamplingSettings:
    """The settings of one row: its own, and a seed of its own where there is a common one."""
    changes = {name: own[name] for name in SamplingSettings.model_fields if own.get(name) not in (None, "")}
    if isinstance(changes.get("stop"), str):
        changes["stop"] = (changes["stop"],)
    if common.seed is not None and "seed" not in changes:
        changes["seed"] = (common.seed + number) % TOP_SEED
    if not changes:
        return common
    return build_config(SamplingSettings, {**common.model_dump(), **changes}, origin="the row")


def _own_form(values: Mapping[str, Any]) -> Form | None:
    """The form that a row brings with it."""
    given = {name: values[name] for name in ("schema", "regex", "choice") if values.get(name) not in (None, "")}
    if len(given) > 1:
        raise TinyslmError(f"The row has a {' and a '.join(given)}.", "Give one of them.")
    match given:
        case {"schema": str(text)}:
            if not text.lstrip().startswith("{"):  # no row names a file to be read
                raise TinyslmError("The row's schema is no JSON object.", 'For instance: {"type": "object"}')
            return Form("schema", read_schema(text))
        case {"schema": Mapping() as schema}:
            return Form("schema", dict(schema))
        case {"regex": str(pattern)}:
            return Form("regex", pattern)
        case {"choice": list(choices)}:
            return Form("choice", choices)
        case {}:
            return None if not given else _refuse(next(iter(given)))


def _refuse(name: str) -> Form:
    kind = {"schema": "a JSON schema", "regex": "a text", "choice": "a list of texts"}[name]
    raise TinyslmError(f"The row's {name} is not {kind}.", "Correct the row.")


def _text(value: Any, column: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise TinyslmError(f'The row\'s "{column}" is not text.', "Give text there, or use --template.")


def _messages(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        return value
    raise TinyslmError('The row\'s "messages" is no list of messages.', 'Give [{"role": "user", "content": "..."}].')


def told(asking: Asking) -> dict[str, Any]:
    """What decides answers, beside the model and the rows, as JSON."""
    return {
        "template": asking.template,
        "column": asking.column,
        "system": asking.system,
        "chat": asking.chat,
        "form": asking.form.key if asking.form else None,
        "settings": asking.settings.model_dump(mode="json", exclude_unset=True),
        "heal": asking.heal,
    }


def with_attempt(asking: Asking, attempt: int) -> Asking:
    """The same with other draws, for another attempt at what failed."""
    seed = asking.settings.seed
    if seed is None or not attempt:
        return asking
    changed = asking.settings.model_copy(update={"seed": (seed + (attempt << 32)) % TOP_SEED})
    return replace(asking, settings=changed)
