"""Text and tool calls of a sample, whole and in pieces, wherever it was cut off."""

import json

import pytest

from tinyslm.inference.call_stream import ArgumentsDelta, CallStart, TextDelta
from tinyslm.inference.request import Finish, Piece
from tinyslm.inference.tool_call_collector import ToolCallCollector

CALL = '<tool_call>\n{"name":"add","arguments":{"x":1,"y":[2,"</tool_call>"]}}\n</tool_call>'
OTHER = CALL.replace("1", "3")


def collected(text: str, finish: Finish, size: int) -> tuple[ToolCallCollector, str, list[dict]]:
    """The collector, and the content of its events, for pieces of `size` characters."""
    collector, said, calls = ToolCallCollector(), "", []
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for number, piece in enumerate([*pieces, ""]):
        for event in collector.take(Piece(0, piece, number, finish if number == len(pieces) else "")):
            match event:
                case TextDelta(more):
                    said += more
                case CallStart(_, name):
                    calls.append({"name": name, "arguments": ""})
                case ArgumentsDelta(index, more):
                    calls[index]["arguments"] += more
    return collector, said, calls


@pytest.mark.parametrize("cut", range(1, len(CALL) - len("\n</tool_call>")))
@pytest.mark.parametrize("before", ["I add.\n", f"I add.\n{OTHER}\n"], ids=["text", "call"])
def test_a_cut_leaves_no_part_of_a_call_in_the_text(before: str, cut: int) -> None:
    found = [collected(before + CALL[:cut], "length", size) for size in (1, 7, 1000)]
    for collector, said, calls in found:
        assert collector.finish_reason == "length"
        assert collector.text == said == "I add."
        assert [call["arguments"] for call in calls] == [call.arguments for call in collector.calls]
        whole = collector.calls[: int(OTHER in before)]
        assert all(call.complete for call in whole)
        assert [json.loads(call.arguments)["x"] for call in whole] == [3] * len(whole) == [3] * before.count('add"')
        for call in collector.calls[len(whole) :]:  # its name was complete
            assert '{"x":1,"y":[2,"</tool_call>"]}'.startswith(call.arguments)
    assert found[0][2] == found[1][2] == found[2][2]


def test_a_stop_inside_a_tag_counts_as_cut_off() -> None:
    collector, said, _ = collected("I add.\n<tool_call", "stop", 5)
    assert (collector.finish_reason, said) == ("length", "I add.")


def test_a_complete_text_keeps_characters_that_could_begin_a_tag() -> None:
    collector, said, _ = collected("a <", "stop", 1)
    assert (collector.finish_reason, said) == ("stop", "a <")


@pytest.mark.parametrize("size", [1, 6, 1000])
def test_a_repeated_call_is_dropped(size: int) -> None:
    collector, said, calls = collected(f"{CALL}\n{OTHER}\n{CALL}", "stop", size)
    assert (collector.finish_reason, said) == ("tool_calls", "")
    assert [json.loads(call["arguments"])["x"] for call in calls] == [1, 3]
    assert [call.name for call in collector.calls] == ["add", "add"]
    assert len({call.id for call in collector.calls}) == 2


def test_without_parsing_everything_is_text() -> None:
    collector = ToolCallCollector(parse_calls=False)
    collector.take(Piece(0, CALL, 1, "invalid"))
    assert (collector.text, collector.calls, collector.finish_reason) == (CALL, [], "content_filter")
