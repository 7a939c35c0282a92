"""What is told of an answer with calls of tools, whole and in pieces, wherever it was cut."""

import json

import pytest

from tinyslm.inference.request import Finish, Piece
from tinyslm.serving.speech import Speech

CALL = '<tool_call>\n{"name":"add","arguments":{"x":1,"y":[2,"</tool_call>"]}}\n</tool_call>'
OTHER = CALL.replace("1", "3")


def heard(text: str, finish: Finish, size: int) -> tuple[Speech, str, list[dict]]:
    """The answer, and what its deltas say, in pieces of `size` characters."""
    speech, said, calls = Speech(calls=True), "", []
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for number, piece in enumerate([*pieces, ""]):
        for delta in speech.take(Piece(0, piece, number, finish if number == len(pieces) else "")):
            if delta.call is None:
                said += delta.text
            elif delta.name is not None:
                calls.append({"name": delta.name, "arguments": delta.text})
            else:
                calls[delta.call]["arguments"] += delta.text
    return speech, said, calls


@pytest.mark.parametrize("cut", range(1, len(CALL) - len("\n</tool_call>")))
@pytest.mark.parametrize("before", ["I add.\n", f"I add.\n{OTHER}\n"], ids=["text", "call"])
def test_a_cut_leaves_no_part_of_a_call_in_the_content(before: str, cut: int) -> None:
    found = [heard(before + CALL[:cut], "length", size) for size in (1, 7, 1000)]
    for speech, said, calls in found:
        assert speech.finish == "length"
        assert speech.text == said == "I add."
        assert speech.message()["content"] == "I add."
        assert [call["arguments"] for call in calls] == [call.arguments for call in speech.calls]
        whole = speech.calls[: int(OTHER in before)]
        assert [json.loads(call.arguments)["x"] for call in whole] == [3] * len(whole) == [3] * before.count('add"')
        for call in speech.calls[len(whole) :]:  # its name was complete
            assert '{"x":1,"y":[2,"</tool_call>"]}'.startswith(call.arguments)
    assert found[0][2] == found[1][2] == found[2][2]


def test_what_ended_in_a_tag_because_no_call_had_room_was_cut() -> None:
    speech, said, _ = heard("I add.\n<tool_call", "stop", 5)
    assert (speech.finish, said) == ("length", "I add.")


def test_text_that_comes_to_its_end_keeps_its_signs() -> None:
    speech, said, _ = heard("a <", "stop", 1)
    assert (speech.finish, said) == ("stop", "a <")


@pytest.mark.parametrize("size", [1, 6, 1000])
def test_a_repeated_call_is_not_told(size: int) -> None:
    speech, said, calls = heard(f"{CALL}\n{OTHER}\n{CALL}", "stop", size)
    assert (speech.finish, said) == ("tool_calls", "")
    assert [json.loads(call["arguments"])["x"] for call in calls] == [1, 3]
    assert [call.name for call in speech.calls] == ["add", "add"]
