"""A chat template rendered as transformers renders it: Jinja in its sandbox, with the same filters and functions.

The sandbox keeps a template from Python's insides, not from using up time and memory: a template that comes from
outside is rendered in a worker process (`sandbox.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tinyslm.tokenizer.sandbox import LONGEST_MESSAGE

LONGEST_OUTPUT = 1 << 24  # characters


@dataclass(frozen=True)
class Rendered:
    """The text of a conversation, and where in it the assistant speaks, as far as the template says so.

    spans: begin and end, in characters, of the `{% generation %}` blocks.
    """

    text: str
    spans: tuple[tuple[int, int], ...] = ()


class TemplateProblem(Exception):
    """A template that gives no text; `kind` is "syntax", "refused", "forbidden", "failed", "long" or "memory"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def render(template: str, values: Mapping[str, Any]) -> Rendered:
    """The text that `template` makes of `values`. Raises `TemplateProblem`."""
    try:
        compiled = _compiled(template)
        spans = compiled.environment.spans = _Spans()  # type: ignore[attr-defined]
        parts = []
        for part in compiled.generate(values):
            parts.append(part)
            spans.written += len(part)
            if spans.written > LONGEST_OUTPUT:
                raise TemplateProblem("long", "")
    except _Refused as error:
        raise TemplateProblem("refused", str(error)) from None
    except SecurityError as error:
        raise TemplateProblem("forbidden", str(error)) from None
    except TemplateSyntaxError as error:
        raise TemplateProblem("syntax", f"{error} (line {error.lineno})") from None
    except MemoryError:
        raise TemplateProblem("memory", "") from None
    except TemplateProblem:
        raise
    except Exception as error:  # a template may make anything fail
        raise TemplateProblem("failed", f"{type(error).__name__}: {error}") from None
    return Rendered("".join(parts), tuple(spans.found))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run in a worker process: returns the text and its spans, or the kind and message of what went wrong."""
    try:
        rendered = render(request["template"], request["values"])
    except TemplateProblem as error:
        if error.kind == "memory":
            raise MemoryError from None
        return {"kind": error.kind, "message": str(error)[:LONGEST_MESSAGE]}
    return {"text": rendered.text, "spans": rendered.spans}


class _Refused(TemplateError):
    """The template called `raise_exception`."""


class _Spans:
    """How much was written so far, and which parts of it stood in `{% generation %}` blocks."""

    def __init__(self) -> None:
        self.written = 0
        self.found: list[tuple[int, int]] = []


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`, which some templates put around what the assistant says."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own way)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_spoken"), [], [], body).set_lineno(line)

    def _spoken(self, caller: Macro) -> str:
        text = str(caller())
        spans: _Spans = self.environment.spans  # type: ignore[attr-defined]
        spans.found.append((spans.written, spans.written + len(text)))
        return text


class _TemplateNamespace(Namespace):
    """Jinja's `namespace`, without names that begin with an underscore: those lead to Python's insides."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _TemplateDict:
    """Python's `dict`, of which templates need only the call."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


@lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda layout: datetime.now().strftime(layout),
        "dict": _TemplateDict(),
        "namespace": _TemplateNamespace,
    }
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter would escape what HTML does not like."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: object) -> None:
    raise _Refused(str(message))


def _check_name(name: str) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")
