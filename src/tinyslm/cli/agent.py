"""`tinyslm agent`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.asking import AnyValue, GeneratorOptions, Text, TextField
from tinyslm.core.config import Section
from tinyslm.inference.settings import GreedySampling
from tinyslm.inference.tools.policy import LoopLimits

if TYPE_CHECKING:
    from tinyslm.agents.agent import Agent, AgentResult
    from tinyslm.agents.trace import Trace
    from tinyslm.inference.tools.tool import Tool

LIMITED = 3
"""Exit code when a limit, not the model, ended the run."""


class AgentOptions(Section):
    """What the agent is given."""

    tools: tuple[str, ...] = Field(
        default=(),
        description="Tools, separated by commas: calculator, clock, files=FOLDER (list, read, search below it), "
        "write=FOLDER (the same, and write), notes=FOLDER (find passages), fetch=HOST (read its pages).",
    )
    mcp: Annotated[tuple[str, ...], AnyValue] = Field(
        default=(),
        description="An MCP server whose tools it gets: its command, or its address; NAME= before it puts NAME_ "
        "before their names. May be given several times.",
    )
    system: TextField = Field(default="", description="System message: instructions that precede the task.")
    trace: Path | None = Field(default=None, description="A file to save all that happened to, as JSON lines.")
    replay: Path | None = Field(
        default=None,
        description="Show a saved trace; with a model: run it again with what the tools returned then, and tell where "
        "it differs (exit code 1 if it does).",
    )


def agent(
    model: str | None = None,
    task: Annotated[str, Text] = "",
    /,
    *,
    options: Annotated[AgentOptions | None, Parameter(name="*")] = None,
    limits: Annotated[LoopLimits | None, Parameter(name="*")] = None,
    sampling: Annotated[GreedySampling | None, Parameter(name="*")] = None,
    engine: Annotated[GeneratorOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Let a model do a task with tools.

    Calls and what they return appear on standard error, the answer on standard output. Exit code 3: a limit ended it
    (steps, time, tokens, the same calls again and again), and the answer may be none.

    Parameters
    ----------
    model
        A model folder, a run folder (its model is used) or a GGUF file (imported first).
    task
        What is to be done; `-` reads it from standard input, `@FILE` from a file.
    options
        What the agent is given.
    limits
        How far it may go.
    sampling
        How its text is drawn.
    engine
        What computes.
    json
        Print one JSON object: the answer, why it ended, and the calls.
    """
    import sys

    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.text_files import read_small_stream

    options, engine = options or AgentOptions(), engine or GeneratorOptions()
    if options.replay is not None:
        sys.exit(_replay(options.replay, model, engine))
    if engine.endpoint and not task:
        model, task = None, model or ""
    task = read_small_stream(sys.stdin.buffer) if task == "-" else task
    if not (model or engine.endpoint) or not task.strip():
        raise TinyslmError("There is no task.", 'Give a model and what is to be done: tinyslm agent MODEL "TASK".')
    with _agent(model, options, limits or LoopLimits(), sampling or GreedySampling(), engine) as made:
        result = _show(made, task, options.trace)
    _print(result, as_json=json)
    if result.finish != "answer":
        sys.exit(LIMITED)


@contextmanager
def _agent(
    model: str | None, options: AgentOptions, limits: LoopLimits, sampling: GreedySampling, engine: GeneratorOptions
) -> Iterator[Agent]:
    from contextlib import ExitStack

    from tinyslm.agents.agent import Agent
    from tinyslm.agents.mcp_client import McpServer
    from tinyslm.agents.named_tools import named_tools
    from tinyslm.cli.asking import opened_generator
    from tinyslm.core.console import notice, warn
    from tinyslm.core.files import check_file_place

    if options.trace is not None:
        check_file_place(options.trace)
    tools: list[Tool] = named_tools([name for given in options.tools for name in given.split(",") if name])
    with ExitStack() as stack:
        for server in options.mcp:
            connected = stack.enter_context(McpServer.named(server, timeout=limits.tool_timeout))
            tools += connected.tools
            for reason in connected.left_out:
                warn(f"A tool of {server} is left out. {reason}")
        if not engine.endpoint:
            notice(f"Loading {model} ...")
        running = stack.enter_context(opened_generator(model or "", engine, threaded=False))
        yield Agent(running, tools, system=options.system or None, settings=sampling, **limits.model_dump())


def _show(agent: Agent, task: str, place: Path | None) -> AgentResult:
    """Run it, telling what happens; the trace is saved however it ends."""
    from json import dumps

    from tinyslm.agents.agent import AgentResult, Begun
    from tinyslm.inference.tools.loop import CallMade, CallReturned, TextSaid

    trace: Trace | None = None
    said = ""
    try:
        for event in agent.steps(task):
            match event:
                case Begun():
                    trace = event.trace
                case TextSaid(_, text):
                    said += text
                case CallMade(step, call):
                    if said.strip():
                        _remark(said.strip())
                    said = ""
                    _remark(f"[step {step}] {call.name} {dumps(dict(call.arguments), ensure_ascii=False)}")
                case CallReturned(step, call, outcome):
                    _remark(f"[step {step}] {call.name} {'failed' if outcome.failed else 'gave'}: {outcome.text:.500}")
                case AgentResult():
                    result = event
    finally:
        if place is not None and trace is not None:
            trace.save(place)
    return result


def _remark(text: str) -> None:
    """A line on standard error, which leaves standard output to the answer."""
    import sys

    from tinyslm.core.printable import printable

    print(printable(text), file=sys.stderr, flush=True)


def _print(result: AgentResult, *, as_json: bool) -> None:
    from json import dumps

    from tinyslm.core.console import say, stream, warn

    if as_json:
        calls = [
            {"name": one.call.name, "arguments": one.call.arguments, "result": one.text, "failed": one.failed}
            for one in result.trace.returned
        ]
        report = {"text": result.text, "finish": result.finish, "steps": result.steps, "calls": calls}
        stream(dumps(report) + "\n")
    else:
        say(result.text)
    if result.finish != "answer":
        warn(_REASONS[result.finish])


_REASONS = {
    "steps": "The step limit ended it (--max-steps).",
    "repeats": "It made the same calls again and again.",
    "time": "The time limit ended it (--time-limit).",
    "length": "The answer was cut off (--max-tokens, or the model's context).",
}


def _replay(file: Path, model: str | None, engine: GeneratorOptions) -> int:
    """Show a trace, or run it again; the exit code."""
    from tinyslm.agents.replaying import recorded_agent, replay
    from tinyslm.agents.trace import Trace
    from tinyslm.cli.asking import opened_generator
    from tinyslm.core.console import say
    from tinyslm.core.quantities import counted

    trace = Trace.load(file)
    if model is None and not engine.endpoint:
        for line in trace.lines():
            say(line)
        return 0
    with opened_generator(model or "", engine, threaded=False) as running:
        again = replay(trace, recorded_agent(trace, running))
    for one in again.differences:
        say(f"{one.what}:\n  recorded: {one.recorded}\n  now:      {one.now}")
    if not again.differences:
        say(f"The same in {counted(again.result.steps, 'step')}.")
    return 1 if again.differences else 0
