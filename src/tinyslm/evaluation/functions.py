"""Does the model write Python that parses? Completions of the headers of functions it has not seen."""

import ast
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.tokenizer.tokenizer import Tokenizer

MOST_TOKENS = 96
"""Tokens of a completion: as many, or what half of the model's context holds."""


@dataclass(frozen=True)
class Function:
    """A function of a held-out document, moved to the left margin: its header, and the lines below it."""

    header: str
    body: str


@dataclass(frozen=True)
class FunctionScore:
    """How many completions of `headers` function headers parse, and how many of the originals cut the same way."""

    headers: int
    completions_parse: int
    originals_parse: int
    examples: tuple[str, ...]


def score_functions(
    engine: Engine,
    documents: Iterable[str],
    seen: bytes,
    count: int = 50,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> FunctionScore | None:
    """Complete the headers of `count` functions of the documents that are nowhere in the training text `seen`.

    `None` when there are no Python functions. progress: called with the functions that are written, and all.
    """
    room = engine.context // 2  # for the header, and again for what follows: completions and originals end as early
    settings = SamplingSettings(max_tokens=min(MOST_TOKENS, room), temperature=0.5, min_p=0.0, seed=0)
    functions = choose_functions(documents, seen, count, engine.tokenizer, room)
    if not functions:
        return None
    written = []
    for number, function in enumerate(functions):
        progress(number, len(functions))
        completion = engine.complete(function.header, settings)[0]
        written.append(function.header + cut(completion.text, whole=completion.finish == "stop"))
    progress(len(functions), len(functions))
    originals = [
        function.header + _beginning(function, engine.tokenizer, settings.max_tokens) for function in functions
    ]
    return FunctionScore(
        headers=len(functions),
        completions_parse=sum(parses(text) for text in written),
        originals_parse=sum(parses(text) for text in originals),
        examples=tuple(written[:3]),
    )


def choose_functions(
    documents: Iterable[str], seen: bytes, count: int, tokenizer: Tokenizer, longest: int
) -> list[Function]:
    """`count` functions drawn without repetition, always the same, with headers of at most `longest` tokens that are
    not in `seen`."""
    found = {function.header: function for document in documents for function in functions_of(document)}
    names = sorted(found)
    chosen: list[Function] = []
    for index in np.random.default_rng(0).permutation(len(names)):
        header = names[index]
        if len(tokenizer.encode(header)) <= longest and header.strip().encode() not in seen:
            chosen.append(found[header])
        if len(chosen) == count:
            break
    return chosen


def functions_of(source: str) -> Iterator[Function]:
    """The functions and methods of a Python file; nothing when it does not parse."""
    tree = _parse(source)
    lines = source.splitlines(keepends=True)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.body[0].lineno > node.lineno:
            first_line = _body_start(node)
            header = textwrap.dedent("".join(lines[node.lineno - 1 : first_line]))
            whole = textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno]))
            if header.endswith(":\n") and whole.startswith(header):
                yield Function(header, whole[len(header) :])


def cut(text: str, whole: bool) -> str:
    """A function's body out of a continuation: up to the next line at the left margin.

    Unless the text is `whole`, its last line may be unfinished and is dropped when the body goes on to the end.
    """
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.strip() and not line[0].isspace():
            return "".join(lines[:number])
    return "".join(lines if whole else lines[:-1])


def parses(source: str) -> bool:
    """Whether `ast.parse` takes the text."""
    return _parse(source) is not None


def _beginning(function: Function, tokenizer: Tokenizer, most: int) -> str:
    """The original body, as far as a completion could have come."""
    ids = tokenizer.encode(function.body)
    return cut(tokenizer.decode(ids[:most]), whole=len(ids) <= most)


def _body_start(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of lines of a file up to the end of the function's header."""
    return node.body[0].lineno - 1


def _parse(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a model writes may be valid and still odd, like "\d" in a string
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
