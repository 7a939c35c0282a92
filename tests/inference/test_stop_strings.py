"""Stop strings: however a text is cut into pieces, what comes through ends where the stop begins."""

import sys
from itertools import pairwise
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.config import load_config
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.stop import LONGEST_STOP, MOST_STOPS, StopStrings

SHORT = st.text("ab", max_size=14)


def through(pieces: list[str], stop: list[str]) -> tuple[str, bool]:
    """What comes through in all, and whether a stop string was found."""
    filter_ = StopStrings(stop)
    return "".join(filter_.push(piece) for piece in pieces) + filter_.flush(), filter_.found


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


@given(text=SHORT, stop=st.text("ab", min_size=1, max_size=4), places=st.lists(st.integers(0, 14), max_size=6))
@settings(deadline=None, max_examples=400)
def test_one_stop_string(text: str, stop: str, places: list[int]) -> None:
    assert through(cut(text, places), [stop]) == (text.split(stop, 1)[0], stop in text)


@given(
    text=SHORT,
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    places=st.lists(st.integers(0, 14), max_size=6),
)
@settings(deadline=None, max_examples=400)
def test_several_stop_strings_do_not_depend_on_the_pieces(text: str, stops: list[str], places: list[int]) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    assert through(cut(text, places), stops) == (expected, bool(ends))


def test_text_that_cannot_begin_a_stop_string_is_not_held_back() -> None:
    filter_ = StopStrings(["END"])
    assert [filter_.push(piece) for piece in ("abc", "E", "x", "EN", "D", "later")] == ["abc", "", "Ex", "", "", ""]
    assert filter_.found
    assert filter_.flush() == ""


@pytest.mark.parametrize("stop", [[], [""]])
def test_no_stop_string(stop: list[str]) -> None:
    assert through(["a", "b"], stop) == ("ab", False)


def test_a_character_costs_the_same_whatever_the_stop_strings_are_and_whatever_is_held_back() -> None:
    many = ["a" * (LONGEST_STOP - 1) + chr(ord("b") + number) for number in range(MOST_STOPS)]
    few_lines, _ = lines_run(["b"], "a" * 5_000)
    lines, held = lines_run(many, "a" * 5_000)
    assert held == LONGEST_STOP - 1
    assert lines <= 4 * few_lines


def lines_run(stops: list[str], text: str) -> tuple[int, int]:
    """How many lines of Python run while a text comes through character by character; how much is held back."""
    filter_ = StopStrings(stops)
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        through = sum(len(filter_.push(character)) for character in text)
    finally:
        sys.settrace(before)
    return lines, len(text) - through


@pytest.mark.parametrize("stop", [["x"] * (MOST_STOPS + 1), ["x" * (LONGEST_STOP + 1)]])
def test_settings_bound_stop_strings(stop: list[str]) -> None:
    SamplingSettings(stop=("x" * LONGEST_STOP,) * MOST_STOPS)
    with pytest.raises(TinyslmError, match=r"stop.*at most (16 item|256 character)"):
        load_config(SamplingSettings, None, {"stop": stop})
