"""Render chat templates in the worker process: Jinja's sandbox with transformers' filters and functions.

The sandbox blocks access to Python's internals; the process limits time and memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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

LONGEST_OUTPUT = 1 << 24  # characters of all texts of a request


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Render request["template"] with request["values"], once for each of request["cuts"] (see `sandbox.render`).

    Returns "texts", pairs of a text and the spans of its generation blocks in characters, or the "kind" and "message"
    of the failure (see `sandbox.py`).
    """
    values, texts, written = request["values"], [], 0
    try:
        for count, prompt in request["cuts"]:
            cut = {**values, "messages": values["messages"][:count], "add_generation_prompt": prompt}
            texts.append(_rendered(request["template"], cut, LONGEST_OUTPUT - written))
            written += len(texts[-1][0])
    except MemoryError:
        raise  # the worker reports it
    except _Refused as error:
        kind, message = "refused", str(error)
    except SecurityError as error:
        kind, message = "forbidden", str(error)
    except TemplateSyntaxError as error:
        kind, message = "syntax", f"{error} (line {error.lineno})"
    except _TooLong:
        kind, message = "long", ""
    except Exception as error:  # a template may make anything fail
        kind, message = "failed", f"{type(error).__name__}: {error}"
    else:
        return {"texts": texts}
    return {"kind": kind, "message": message[:LONGEST_MESSAGE]}


def _rendered(template: str, values: Mapping[str, Any], longest: int) -> tuple[str, list[tuple[int, int]]]:
    compiled = _compiled(template)
    spans = compiled.environment.spans = _Spans()  # type: ignore[attr-defined]
    parts = []
    for part in compiled.generate(values):
        parts.append(part)
        spans.written += len(part)
        if spans.written > longest:
            raise _TooLong
    return "".join(parts), spans.found


class _TooLong(Exception):
    """The output exceeds the limit."""


class _Refused(TemplateError):
    """The template called `raise_exception`."""


class _Spans:
    """The number of characters written so far, and the spans of them that are in `{% generation %}` blocks."""

    def __init__(self) -> None:
        self.written = 0
        self.found: list[tuple[int, int]] = []


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`, with which some templates enclose the assistant's content."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's convention)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_record"), [], [], body).set_lineno(line)

    def _record(self, caller: Macro) -> str:
        text = str(caller())
        spans: _Spans = self.environment.spans  # type: ignore[attr-defined]
        spans.found.append((spans.written, spans.written + len(text)))
        return text


class _TemplateNamespace(Namespace):
    """Jinja's `namespace`, without names that begin with an underscore, which lead to Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _TemplateDict:
    """Python's `dict`, restricted to what templates use."""

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
    """Format plain JSON; Jinja's own filter escapes characters for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: object) -> None:
    raise _Refused(str(message))


def _check_name(name: str) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")
