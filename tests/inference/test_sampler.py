"""Choosing tokens: filters keep exactly the right ones, draws follow the probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.sampler import SamplingBatch, draw, filtered_probabilities, log_probabilities, unpack_bits
from tinyslm.inference.sequence_state import likeliest
from tinyslm.inference.settings import SamplingSettings

SHARES = np.array([0.4, 0.1, 0.25, 0.05, 0.2])
LOGITS = np.log(SHARES).astype(np.float32)


def draws_of(rows: int = 1, chance: list[float] | None = None, allowed=None, **filters) -> SamplingBatch:
    one = SamplingSettings(**{"temperature": 1.0, "min_p": 0.0, **filters})
    return SamplingBatch.of([one] * rows, chance or [0.0] * rows, allowed)


def bits(*ids: int) -> np.ndarray:
    return np.array([[sum(1 << token for token in ids)]], np.uint32)


@pytest.mark.parametrize(
    ("filters", "places"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 1}, [0]),
        ({"top_k": 3}, [0, 2, 4]),
        ({"top_k": 5}, [0, 1, 2, 3, 4]),
        ({"top_k": 50}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.01}, [0]),
        ({"top_p": 0.39}, [0]),
        ({"top_p": 0.5}, [0, 2]),
        ({"top_p": 0.7}, [0, 2, 4]),
        ({"top_p": 0.96}, [0, 1, 2, 3, 4]),
        ({"min_p": 0.3}, [0, 2, 4]),
        ({"min_p": 1.0}, [0]),
        ({"top_k": 3, "top_p": 0.7}, [0, 2]),  # of 0.85, the first two are 0.76
        ({"top_k": 4, "min_p": 0.3}, [0, 2, 4]),
        ({"top_p": 0.9, "min_p": 0.6}, [0, 2]),
    ],
)
def test_filters_keep_exactly_the_right_tokens(filters: dict, places: list[int]) -> None:
    weights = filtered_probabilities(LOGITS, draws_of(**filters), 0)
    assert weights.nonzero()[0].tolist() == places
    np.testing.assert_allclose(weights[places] / weights.sum(), SHARES[places] / SHARES[places].sum(), rtol=1e-5)


def test_temperature_divides_the_logits() -> None:
    weights = filtered_probabilities(LOGITS, draws_of(temperature=0.5), 0)
    np.testing.assert_allclose(weights / weights.sum(), SHARES**2 / (SHARES**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 2.0}])
def test_draws_follow_the_probabilities(filters: dict) -> None:
    count = 2000
    draws = draws_of(count, list(np.random.default_rng(0).random(count)), **filters)
    expected = filtered_probabilities(LOGITS, draws, 0)
    expected /= expected.sum()
    counts = np.bincount(draw(np.tile(LOGITS, (count, 1)), draws), minlength=5)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - count * expected)[possible] ** 2 / (count * expected)[possible]).sum()
    assert chi_square < 18.5  # 99.9 % of a chi-square distribution with 4 degrees of freedom


def test_a_draw_is_the_first_token_whose_cumulative_probability_exceeds_the_chance() -> None:
    chances = [0.0, 0.39, 0.41, 0.49, 0.51, 0.74, 0.76, 0.79, 0.81, 0.999999999]
    found = draw(np.tile(LOGITS, (10, 1)), draws_of(10, chances))
    assert found.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_only_allowed_tokens_are_drawn() -> None:
    for chance in (0.0, 0.3, 0.99):
        assert draw(LOGITS[None], draws_of(1, [chance], bits(1, 3)))[0] in (1, 3)
    assert draw(LOGITS[None], draws_of(1, [0.5], bits(1, 3), temperature=0)).tolist() == [1]


def test_a_certain_end_is_never_passed() -> None:
    logits = np.array([[5.0, -np.inf, -np.inf]], np.float32)
    assert draw(logits, draws_of(1, [1 - 2**-53])).tolist() == [0]


def test_temperature_zero_takes_the_likeliest() -> None:
    assert draw(np.tile(LOGITS, (3, 1)), draws_of(3, [0, 0.5, 0.99], temperature=0, top_k=2)).tolist() == [0, 0, 0]


def test_log_probabilities_are_those_of_the_softmax() -> None:
    np.testing.assert_allclose(log_probabilities(LOGITS + 3), np.log(SHARES), rtol=1e-5)


def test_bits_come_lowest_first() -> None:
    row = np.array([0b101, 1 << 31], np.uint32)
    assert unpack_bits(row, 64).nonzero()[0].tolist() == [0, 2, 63]


@given(
    logits=st.lists(st.integers(-300, 300).map(lambda tenths: tenths / 10), min_size=1, max_size=12),
    top_k=st.integers(0, 14),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
    temperature=st.floats(0.05, 5),
    chance=st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None, max_examples=60)
def test_some_token_always_remains(logits, top_k, top_p, min_p, temperature, chance) -> None:
    filters = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "temperature": temperature}
    draws = draws_of(1, [chance], **filters)
    weights = filtered_probabilities(np.array(logits, np.float32), draws, 0)
    assert np.isfinite(weights).all()
    assert weights[logits.index(max(logits))] == weights.max() > 0
    assert weights[draw(np.array([logits], np.float32), draws)[0]] > 0


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": -0.1}, {"top_k": -1}, {"min_p": 2}, {"max_tokens": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(TinyslmError, match=next(iter(wrong))):
        build_config(SamplingSettings, wrong)


@given(values=st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0]), min_size=1, max_size=12), count=st.integers(0, 14))
@settings(deadline=None, max_examples=200)
def test_the_likeliest_are_found_without_sorting_all(values: list[float], count: int) -> None:
    logprobs = np.array(values)
    assert likeliest(logprobs, count).tolist() == np.argsort(-logprobs, kind="stable")[:count].tolist()
