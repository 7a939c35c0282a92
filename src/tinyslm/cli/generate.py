"""`tinyslm generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.asking import NO_HEAL, AnyValue, ConstraintOptions, EngineOptions, FromFile, TextArgument, TextField
from tinyslm.core.config import Section
from tinyslm.inference.settings import SamplingSettings

if TYPE_CHECKING:
    from tinyslm.inference.engine import Engine
    from tinyslm.inference.grammar import Grammar
    from tinyslm.inference.request import Completion, Request


class GenerateOptions(Section):
    """What is generated."""

    text: Annotated[Annotated[str, FromFile] | None, AnyValue, Parameter(name=["--prompt", "-p"])] = Field(
        default=None, description="The same as PROMPT, which may look like an option here."
    )
    samples: Annotated[int, Parameter(name=["--samples", "-n"])] = Field(
        default=1, description="How many samples to generate, at once."
    )
    chat: bool = Field(default=False, description="The prompt is what a user says: answer it, do not go on from it.")
    system: TextField = Field(default="", description="A system message before it; includes --chat.")
    no_heal: bool = Field(default=False, description=NO_HEAL)


def generate(
    model: Path,
    prompt: Annotated[str | None, TextArgument] = None,
    /,
    *,
    options: Annotated[GenerateOptions | None, Parameter(name="*")] = None,
    constraints: Annotated[ConstraintOptions | None, Parameter(name="*")] = None,
    sampling: Annotated[SamplingSettings | None, Parameter(name="*")] = None,
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Continue a prompt, or answer it; the text appears as it is generated.

    A given prompt is printed before its continuation. With --chat, with a constraint and for piped prompts, standard
    output holds only the generated text. Exit code 4: a text with a constraint was cut off, or repeats items that must
    differ.

    Parameters
    ----------
    model
        A model folder, a run folder (its model is used), a GGUF file (imported first), or a name that
        `tinyslm pull --list` shows (pulled first).
    prompt
        The text to go on from; `@FILE` reads it from a file; `-`, or nothing where something is piped in: standard
        input; empty: the start of a new document.
    options
        What is generated.
    constraints
        Constraints on the text.
    sampling
        How the text is drawn.
    engine
        What computes.
    json
        Print one JSON object for each sample, when it is complete.
    """
    import sys

    from tinyslm.cli.asking import FAILED, opened
    from tinyslm.core.console import warn
    from tinyslm.core.errors import TinyslmError
    from tinyslm.inference.output_constraint import is_complete

    options = options or GenerateOptions()
    if prompt is not None and options.text is not None:
        raise TinyslmError("Two prompts were given.", "Give one: tinyslm generate MODEL PROMPT")
    prompt = options.text if prompt is None else prompt
    if options.samples < 1:
        raise TinyslmError(f"{options.samples} samples cannot be generated.", "Give -n a number from 1 on.")
    constraint = (constraints or ConstraintOptions()).constraint()
    with opened(model, engine or EngineOptions(), threaded=False) as running:
        piped = prompt == "-" or (prompt is None and not sys.stdin.isatty())
        prompt = _read_prompt(prompt, piped=piped)
        grammar = constraint.compile(running.tokenizer) if constraint else None
        request = _request(running, prompt, options, sampling or SamplingSettings(), grammar)
        shown = "" if piped or constraint or options.chat or options.system else prompt
        if json:
            completions = _print_json(running, request, prompt)
        elif options.samples == 1:
            completions = _print_stream(running, request, shown)
        else:
            completions = _print_samples(running, request, shown, bare=constraint is not None)
    if any(one.finish == "invalid" for one in completions):
        warn("The text repeats items, which its schema forbids (uniqueItems): try another --seed.")
        sys.exit(FAILED)
    if any(not is_complete(request, one) for one in completions):
        warn("The text was cut off before it satisfied its constraint: give it more tokens (--max-tokens).")
        sys.exit(FAILED)


def _request(
    engine: Engine, prompt: str, options: GenerateOptions, sampling: SamplingSettings, grammar: Grammar | None
) -> Request:
    """The prompt as a conversation to answer, or as a text to go on from."""
    from tinyslm.inference.request import Request

    if options.chat or options.system:
        messages = [{"role": "system", "content": options.system}] if options.system else []
        ids = engine.chat_ids([*messages, {"role": "user", "content": prompt}])
        return Request(ids, engine.with_defaults(sampling), options.samples, grammar, continues=False)
    return engine.completion_request(prompt, sampling, options.samples, grammar=grammar, heal=not options.no_heal)


def _read_prompt(given: str | None, *, piped: bool) -> str:
    """The prompt given, or standard input: exactly with `-`, otherwise without the line end that programs put last."""
    import sys

    from tinyslm.core.text_files import read_small_stream

    if not piped:
        return given or ""
    text = read_small_stream(sys.stdin.buffer)
    return text if given == "-" else text.removesuffix("\n").removesuffix("\r")


def _print_stream(engine: Engine, request: Request, shown: str) -> list[Completion]:
    from tinyslm.core.console import say, stream
    from tinyslm.inference.request import Completion

    ids: list[int] = []
    for number, piece in enumerate(engine.submit(request)):
        stream(
            piece.text if number else shown + piece.text
        )  # if the prompt is too long, the error comes before it is printed
        ids += piece.ids
    say()
    return [Completion("", piece.finish, piece.tokens, tuple(ids))]


def _print_samples(engine: Engine, request: Request, shown: str, *, bare: bool) -> list[Completion]:
    """Every sample below a line of its own; `bare`: nothing but samples, for other programs."""
    from tinyslm.core.console import say, stream

    completions = engine.submit(request).whole()
    for number, completion in enumerate(completions, 1):
        if bare:
            stream(f"{completion.text}\n")
        else:
            say(f"--- sample {number} of {len(completions)} ---\n{shown}{completion.text}\n")
    return completions


def _print_json(engine: Engine, request: Request, prompt: str) -> list[Completion]:
    from json import dumps

    from tinyslm.core.console import stream

    completions = engine.submit(request).whole()
    for one in completions:
        report = {"prompt": prompt, "text": one.text, "finish": one.finish, "tokens": one.tokens}
        stream(dumps(report) + "\n")
    return completions
