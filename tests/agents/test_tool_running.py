"""Running calls: in time, side by side, whatever goes wrong in them."""

import asyncio
import functools
import sys
import threading
import time

import pytest

from tinyslm.inference.tools.running import MOST_LEFT_BEHIND, Call, ToolRunner
from tinyslm.inference.tools.tool import Tool, ToolError, tool


@pytest.fixture
def release():
    """Lets tools that hang end, after the test."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name.startswith("tool-"):
            thread.join(10)


def run(tools, *calls, timeout=10.0):
    return ToolRunner(tools).run([Call(f"call_{n}", name, values) for n, (name, values) in enumerate(calls)], timeout)


@tool
def double(x: int) -> int:
    return 2 * x


def test_results_become_text():
    @tool
    def give(kind: str) -> object:
        return {"text": "as it is", "none": None, "data": {"a": [1, None, "ä"]}, "odd": {1j}}[kind]

    outcomes = run(
        [give, double], *[("give", {"kind": kind}) for kind in ("text", "none", "data", "odd")], ("double", {"x": 4})
    )
    assert [one.text for one in outcomes] == ["as it is", "done", '{"a":[1,null,"ä"]}', '["1j"]', "8"]
    assert not any(one.failed for one in outcomes)


def test_what_goes_wrong_is_told():
    @tool
    def fails(how: str) -> str:
        if how == "exit":
            sys.exit(1)
        if how == "interrupt":
            raise KeyboardInterrupt
        raise ToolError("try a smaller one") if how == "tool" else ValueError("no such thing")

    outcomes = run([fails], *[("fails", {"how": how}) for how in ("tool", "other", "exit", "interrupt")], ("fails", {}))
    assert [one.text for one in outcomes] == [
        "try a smaller one",
        "ValueError: no such thing",
        "SystemExit: 1",
        "KeyboardInterrupt: ",
        "Wrong arguments. how: Field required",
    ]
    assert all(one.failed for one in outcomes)


def test_a_tool_that_is_not_listed_is_not_called():
    (outcome,) = run([double], ("delete_everything", {}))
    assert (outcome.text, outcome.failed) == ("There is no tool delete_everything.", True)


def test_calls_run_side_by_side():
    barrier = threading.Barrier(3, timeout=10)

    @tool
    def meet(x: int) -> int:
        barrier.wait()
        return x

    assert [one.text for one in run([meet], *[("meet", {"x": x}) for x in range(3)])] == ["0", "1", "2"]


def test_a_tool_that_hangs_is_left_behind(release):
    @tool
    def hangs() -> str:
        release.wait()
        return "too late"

    late, soon = run([hangs, double], ("hangs", {}), ("double", {"x": 1}), timeout=0.1)
    assert (late.text, late.failed) == ("hangs gave no answer within 0.1 seconds.", True)
    assert soon.text == "2"


def test_a_tool_that_hangs_again_and_again_is_not_called_any_more(release):
    started = []

    @tool
    def hangs() -> str:
        started.append(True)
        release.wait()
        return ""

    runner = ToolRunner([hangs])
    for _ in range(MOST_LEFT_BEHIND):
        runner.run([Call("c", "hangs", {})], 0.01)
    (refused,) = runner.run([Call("c", "hangs", {})], 0.01)
    assert "still busy" in refused.text
    assert len(started) == MOST_LEFT_BEHIND
    release.set()
    for thread in threading.enumerate():
        if thread.name == "tool-hangs":
            thread.join()
    assert not runner.run([Call("c", "hangs", {})], 10)[0].failed


def test_coroutines_are_cancelled():
    ended = []

    @tool
    async def slow(x: int) -> int:
        try:
            await asyncio.sleep(x)
        finally:
            ended.append(x)
        return x

    outcomes = run([slow], ("slow", {"x": 0}), ("slow", {"x": 100}), timeout=0.2)
    assert outcomes[0].text == "0"
    assert outcomes[1].failed
    deadline = time.monotonic() + 10
    while len(ended) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(ended) == [0, 100]


def test_whatever_a_function_returns_can_be_awaited():
    async def three() -> int:
        return 3

    made = Tool("three", "", {"type": "object"}, functools.partial(three))
    assert run([made], ("three", {}))[0].text == "3"
