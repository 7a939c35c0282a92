"""Where a run stands, though its number of updates changes on the way."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.training.deadline import Correction, Timetable


@st.composite
def timetables(draw) -> Timetable:
    """A plan, and up to six corrections of it."""
    timetable = Timetable(draw(st.integers(1, 2000)))
    step = 0
    for _ in range(draw(st.integers(0, 6))):
        if step + 1 >= timetable.steps:
            break
        step = draw(st.integers(step + 1, timetable.steps - 1))
        steps = step + draw(st.integers(1, 2000))
        correction = Correction(step, timetable.position(step), steps, float(step))
        timetable = Timetable(timetable.planned, (*timetable.corrections, correction))
    return timetable


@given(planned=st.integers(1, 10_000))
def test_without_corrections_it_is_the_share_of_the_steps(planned: int) -> None:
    timetable = Timetable(planned)
    assert timetable.steps == planned
    for step in {0, 0.5, planned // 2 + 0.5, planned - 0.5, planned}:
        assert timetable.position(step) == step / planned


@given(timetables())
def test_it_goes_from_nothing_to_all_and_never_jumps(timetable: Timetable) -> None:
    positions = [timetable.position(step) for step in range(timetable.steps + 1)]
    assert positions[0] == 0
    assert positions[-1] == pytest.approx(1, abs=1e-12)
    assert all(before < after for before, after in pairwise(positions))
    for number, correction in enumerate(timetable.corrections):
        before = Timetable(timetable.planned, timetable.corrections[:number])
        assert timetable.position(correction.step) == before.position(correction.step) == correction.position
        assert timetable.position(correction.step - 0.5) == before.position(correction.step - 0.5)


@given(timetables(), st.integers(1, 12))
def test_every_point_is_passed_once(timetable: Timetable, points: int) -> None:
    passing = [step for step in range(1, timetable.steps + 1) if timetable.passes(step, points)]
    assert len(passing) == min(points, len(passing))
    assert passing[-1] == timetable.steps
    if not timetable.corrections and timetable.steps >= points:
        assert len(passing) == points
    for number in range(1, points):  # by the update that comes to it, not one later
        step = next(s for s in range(1, timetable.steps + 1) if timetable.position(s) >= number / points - 1e-12)
        assert step in passing


@given(timetables(), st.integers(1, 12))
def test_points_can_lie_closer_together_at_the_start(timetable: Timetable, points: int) -> None:
    passing = [step for step in range(1, timetable.steps + 1) if timetable.passes(step, points, power=2)]
    assert passing[-1] == timetable.steps
    assert len(passing) <= points
    for number in range(1, points):
        place = (number / points) ** 2
        step = next(s for s in range(1, timetable.steps + 1) if timetable.position(s) >= place + 1e-6)
        assert any(place - 1e-6 <= timetable.position(one) <= timetable.position(step) for one in passing)


def test_no_points_are_passed_never() -> None:
    assert not any(Timetable(10).passes(step, 0) for step in range(1, 11))


def test_a_correction_makes_the_rest_longer_or_shorter() -> None:
    slower = Timetable(100, (Correction(20, 0.2, 60, 1.0),))
    assert slower.steps == 60
    assert [slower.position(step) for step in (10, 20, 40, 60)] == pytest.approx([0.1, 0.2, 0.6, 1.0])
