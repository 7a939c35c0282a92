"""Runs on imagined machines end on time: the arithmetic of a budget, without a clock."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tinyslm.training.config import LoopConfig
from tinyslm.training.deadline import (
    POINTS,
    Correction,
    Deadline,
    Decisions,
    RunCosts,
    Timetable,
    fitting_steps,
    is_due,
)

FREE = RunCosts(update=0.1, validation=0, weights=0, sample=0, checkpoint=0, scoring=0, report=0)
USUAL = RunCosts(update=0.3, validation=0.5, weights=0.05, sample=0.1, checkpoint=0.2, scoring=3.0, report=0.6)


def test_what_fits_is_what_is_left_after_everything_else() -> None:
    train = LoopConfig(checkpoint_minutes=1)
    assert fitting_steps(60, 0.0, FREE, train) == 600
    assert (
        fitting_steps(60, 0.0, replace(FREE, validation=1, weights=0.5), train) == 450 - 10
    )  # and the best, read, written
    assert fitting_steps(60, 0.55, replace(FREE, validation=1), train) == 550  # those of 0.6, 0.7, ... are ahead
    assert fitting_steps(60, 0.0, replace(FREE, sample=2), train) == 500
    assert fitting_steps(60, 0.0, replace(FREE, report=6), train) == 540
    assert fitting_steps(66, 0.0, replace(FREE, checkpoint=6), train) == round(60 / 1.1 / 0.1)
    assert fitting_steps(60, 0.0, replace(FREE, checkpoint=0.2), LoopConfig(checkpoint_minutes=0)) == 199
    every = LoopConfig(validate_every=5, sample_every=10)
    assert fitting_steps(60, 0.0, replace(FREE, validation=1, sample=1), every) == 150
    assert fitting_steps(-5, 0.9, FREE, train) == 1


def test_it_is_counted_again_at_the_points_and_when_late() -> None:
    plan = Correction(0, 0.0, 600, 0.0)
    assert not is_due(0.01, 0.6, plan, 60, FREE)
    assert is_due(0.02, 1.2, plan, 60, FREE)
    after = Correction(12, 0.02, 600, 1.2)
    assert not is_due(0.049, 2.9, after, 60, FREE)
    assert is_due(0.05, 3, after, 60, FREE)
    assert not is_due(0.04, 2.4 + 1.1, after, 60, FREE)
    assert is_due(0.04, 2.4 + 1.3, after, 60, FREE)


def test_costs_follow_what_is_seen() -> None:
    costs = USUAL
    for _ in range(200):
        costs = costs.updated(0.9, 1000)
    assert costs.update == pytest.approx(0.9, rel=0.01)
    assert costs.ending == pytest.approx(3 * USUAL.ending, rel=0.01)  # the machine has become slower
    assert USUAL.seen("validation", 1.5).validation == pytest.approx(1.0)
    assert USUAL.seen("sample", 1000).sample == pytest.approx(0.2)  # once may be chance
    assert FREE.seen("sample", 2).sample == 1
    assert USUAL.ending == pytest.approx(0.2 + 1.5 + 0.1 + 0.6)


def steady(_: float) -> float:
    return 1.0


MACHINES: dict[str, Callable[[float], float]] = {
    "steady": steady,
    "slower than planned": lambda _: 1.8,
    "faster than planned": lambda _: 0.5,
    "slower from a third on": lambda share: 2.0 if share > 1 / 3 else 1.0,
    "faster from a third on": lambda share: 0.5 if share > 1 / 3 else 1.0,
    "slower by and by": lambda share: 1 + 2 * share,
    "slow for a while": lambda share: 4.0 if 0.5 < share < 0.6 else 1.0,
    "half as fast at the end": lambda share: 2.0 if share > 0.9 else 1.0,
    "nearly standing in the middle": lambda share: 30.0 if 0.4 < share < 0.5 else 1.0,
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize(("minutes", "update"), [(1, 0.05), (1, 0.3), (1, 0.8), (15, 0.3)])
def test_runs_end_on_time(tmp_path: Path, name: str, minutes: float, update: float) -> None:
    budget = 60 * minutes
    seconds = live(tmp_path / "deadline.json", minutes, replace(USUAL, update=update), MACHINES[name])
    longest = update * max(MACHINES[name](tenth / 10 + 0.01) for tenth in range(10))  # one update may be begun in time
    assert abs(seconds - budget) <= 0.05 * budget + longest


def test_corrections_are_few(tmp_path: Path) -> None:
    live(tmp_path / "deadline.json", 5, USUAL, steady)
    pace = Decisions.read(tmp_path / "deadline.json")
    assert len(pace.corrections) == len(POINTS)
    assert [c.position for c in pace.corrections] == pytest.approx(POINTS, abs=0.02)


def live(file: Path, minutes: float, costs: RunCosts, machine: Callable[[float], float]) -> float:
    """How long a run takes on a machine on which everything costs `machine(share of the time)` times what it should."""
    train, budget, dice = LoopConfig(minutes=minutes), 60 * minutes, random.Random(4)
    deadline = Deadline(file, Decisions(fitting_steps(budget - 5, 0.0, costs, train), 5.0, costs), train)
    real, seconds, saved, step = costs, 5.0, 5.0, 0
    corrections: tuple[Correction, ...] = ()

    def spend(part: str) -> None:
        nonlocal seconds, costs
        took = getattr(real, part) * machine(seconds / budget) * dice.uniform(0.8, 1.2)
        seconds += took
        costs = costs.updated(took, timetable.steps) if part == "update" else costs.seen(part, took)

    while step < (timetable := Timetable(deadline.decisions.steps, corrections)).steps:
        step += 1
        spend("update")
        if timetable.passes(step, 10):
            spend("validation")
            spend("weights")
        if timetable.passes(step, 5):
            spend("sample")
        if correction := deadline.correct(step, seconds, costs, corrections):
            corrections = (*corrections, correction)
        if seconds - saved > 60:
            spend("checkpoint")
            saved = seconds
    return seconds + real.ending * machine(0.99)
