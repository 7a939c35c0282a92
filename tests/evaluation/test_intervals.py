"""Bootstrap intervals: they cover the truth about as often as they say, and pairing removes what examples share."""

import numpy as np
import pytest

from tinyslm.evaluation.intervals import Estimate, holm, mean_estimate, paired_change_intervals, ratio_interval


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        sizes = chance.integers(50, 150, 80).astype(float)
        low, high = ratio_interval(sizes * chance.normal(2.0, 0.5, 80), sizes)
        covered += low <= 2.0 <= high
    assert 87 <= covered <= 100


def test_pairing_removes_what_makes_an_example_hard() -> None:
    chance = np.random.default_rng(2)
    hardness = chance.lognormal(0, 1, 200)
    totals = np.stack([hardness, hardness * chance.normal(1.02, 0.01, 200)], 1)
    same, (low, high) = paired_change_intervals(totals)
    assert same == (0.0, 0.0)
    assert 0.015 < low < 0.02 < high < 0.025


@pytest.mark.parametrize(("count", "unseen"), [(1, 0.975), (16, 0.206), (1000, 0.0037)])
def test_what_was_never_seen_may_still_happen(count: int, unseen: float) -> None:
    assert mean_estimate(np.zeros(count)) == Estimate(0.0, 0.0, pytest.approx(unseen, abs=1e-4))
    assert mean_estimate(np.ones(count)) == Estimate(1.0, pytest.approx(1 - unseen, abs=1e-4), 1.0)


def test_one_example_has_no_width() -> None:
    low, high = ratio_interval(np.array([6.0]), np.array([3.0]))
    assert (low, high) == pytest.approx((2.0, 2.0))


def test_empty_documents_do_not_count() -> None:
    low, high = ratio_interval(np.array([0.0, 6.0]), np.array([0.0, 3.0]))
    assert (low, high) == pytest.approx((2.0, 2.0))


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
