"""Traces: saved, read, shown and replayed."""

import json

import pytest
from scripted_engine import call_text

from tinyslm.agents.agent import Agent, Begun
from tinyslm.agents.replaying import recorded_agent, replay
from tinyslm.agents.trace import Trace
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.tools.tool import Tool, tool

ODD = "two\nlines, \u2028 \u0085 \x00 \ud800 and 😀"


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


SAID = ("Let me see. " + call_text("double", '{"x": 21}'), "It is 42.")


@pytest.fixture
def trace(scripted):
    return Agent(scripted(*SAID), [double], system="Be quick.").run("Twice 21?").trace


def test_a_trace_has_everything(trace):
    assert trace.start.messages == [
        {"role": "system", "content": "Be quick."},
        {"role": "user", "content": "Twice 21?"},
    ]
    assert trace.start.engine == "scripted"
    assert trace.start.limits["max_steps"] == 8
    assert trace.start.settings["seed"] == trace.said[0].seed
    assert trace.start.tools == [double.schema()]
    assert [one.text for one in trace.said] == ["Let me see.", "It is 42."]
    assert [(one.call.name, one.call.arguments, one.text) for one in trace.returned] == [("double", {"x": 21}, "42")]
    assert (trace.end.text, trace.end.finish, trace.end.steps) == ("It is 42.", "answer", 2)
    assert trace.said[1].prompt_tokens > trace.said[0].prompt_tokens > 0


def test_a_saved_trace_is_read_again(trace, tmp_path):
    trace.save(tmp_path / "trace.jsonl")
    read = Trace.load(tmp_path / "trace.jsonl")
    assert (read.start, read.records) == (trace.start, trace.records)
    for line in (tmp_path / "trace.jsonl").read_text().splitlines():
        json.loads(line)


def test_odd_characters_survive(scripted, tmp_path):
    @tool
    def odd(x: int) -> str:
        return ODD

    trace = Agent(scripted(call_text("odd", '{"x": 1}'), "Ok."), [odd]).run("Go " + ODD).trace
    trace.save(tmp_path / "trace.jsonl")
    read = Trace.load(tmp_path / "trace.jsonl")
    assert read.returned[0].text == ODD
    assert read.start.messages[0]["content"] == "Go " + ODD


def test_a_trace_is_for_reading(trace):
    told = "\n".join(trace.lines())
    for part in ("tools: double", "user: Twice 21?", 'double {"x": 21}', "  42 ", "It is 42.", "2 steps: answer"):
        assert part in told


def test_one_step_is_no_plural(scripted):
    result = Agent(scripted("It is 42."), []).run("Say it.")
    assert "\nended after 1 step: answer" in "\n".join(result.trace.lines())


def test_a_run_that_fails_leaves_its_trace(scripted):
    def breaks(prompt):
        raise RuntimeError("the engine broke")

    agent = Agent(scripted(SAID[0], breaks), [double])
    events = agent.steps("Go")
    begun = next(events)
    assert isinstance(begun, Begun)
    with pytest.raises(RuntimeError, match="broke"):
        list(events)
    assert begun.trace.returned[0].text == "42"
    assert begun.trace.end.finish == "error"
    assert "broke" in begun.trace.end.text


def test_a_replay_calls_no_tool(trace, scripted):
    def never(x: int) -> int:
        pytest.fail("called")

    careful = Tool("double", double.description, double.parameters, never)
    assert replay(trace, Agent(scripted(*SAID), [careful])).differences == []
    assert replay(trace, recorded_agent(trace, scripted(*SAID))).differences == []


def test_a_replay_that_differs_says_where(trace, scripted):
    def found(*texts):
        return [
            (one.what, one.recorded, one.now) for one in replay(trace, Agent(scripted(*texts), [double])).differences
        ]

    assert found(SAID[0], "It is 43.") == [("step 2, text", "It is 42.", "It is 43.")]
    other = call_text("double", '{"x": 22}')
    assert found("Let me see. " + other, "It is 42.") == [
        ("step 1, calls", '[["double", {"x": 21}]]', '[["double", {"x": 22}]]')
    ]
    assert found("42.") == [
        ("step 1, text", "Let me see.", "42."),
        ("step 1, calls", '[["double", {"x": 21}]]', "[]"),
        ("number of steps", "2", "1"),
    ]


def test_a_replay_with_other_tools_says_so(trace, scripted):
    twice = double.renamed("twice")
    differences = replay(trace, Agent(scripted("42."), [twice])).differences
    assert differences[0].what == "tools"


LINE = '{"kind": "said", "step": 1}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a record of a trace"),
        (b"hello", ":1 is not a record"),
        (b"[1]", ":1 is not a record"),
        (b'{"kind": "other"}', ":1 is not a record"),
        (LINE.encode(), "text: Field required"),
        (b"\xff\xfe", ":1 is not a record"),
        (b'{"kind": "end", "text": "", "finish": "answer", "steps": 1}', "does not begin with a start"),
    ],
)
def test_what_is_no_trace(tmp_path, content, words):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(TinyslmError, match=words):
        Trace.load(tmp_path / "x.jsonl")
    with pytest.raises(TinyslmError, match="Could not read"):
        Trace.load(tmp_path / "missing")


def test_traces_of_other_versions_and_several_in_one(trace, tmp_path):
    place = tmp_path / "x.jsonl"
    trace.save(place)
    whole = place.read_bytes()
    place.write_bytes(whole + whole)
    with pytest.raises(TinyslmError, match="second trace"):
        Trace.load(place)
    place.write_bytes(whole.replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(TinyslmError, match="version"):
        Trace.load(place)
