"""Choosing tokens: filters keep exactly the right ones, draws follow the probabilities, the penalty its formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.sampling import choose, filtered_probabilities, penalize
from tinyslm.inference.settings import SamplingSettings

SHARES = torch.tensor([0.4, 0.1, 0.25, 0.05, 0.2])
NOTHING: list[int] = []


def kept(**filters) -> list[int]:
    probabilities = filtered_probabilities(SHARES.log(), SamplingSettings(temperature=1, **filters))
    assert probabilities.sum().item() == pytest.approx(1)
    places = probabilities.nonzero().flatten()
    torch.testing.assert_close(probabilities[places], SHARES[places] / SHARES[places].sum())
    return places.tolist()


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
    assert kept(**filters) == places


def test_temperature_divides_the_logits() -> None:
    found = filtered_probabilities(SHARES.log(), SamplingSettings(temperature=0.5))
    torch.testing.assert_close(found, SHARES.square() / SHARES.square().sum())


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 2.0}])
def test_draws_follow_the_probabilities(filters: dict) -> None:
    settings = SamplingSettings(**{"temperature": 1.0, **filters})
    expected = filtered_probabilities(SHARES.log(), settings).numpy()
    generator = torch.Generator().manual_seed(0)
    draws = 2000
    counts = np.bincount([choose(SHARES.log(), NOTHING, settings, generator) for _ in range(draws)], minlength=5)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - draws * expected)[possible] ** 2 / (draws * expected)[possible]).sum()
    assert chi_square < 18.5  # 99.9 % of a chi-square distribution with 4 degrees of freedom


def test_temperature_zero_takes_the_likeliest() -> None:
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    settings = SamplingSettings(temperature=0, top_k=2)
    assert {choose(SHARES.log(), NOTHING, settings, generator) for _ in range(20)} == {0}
    assert torch.equal(generator.get_state(), state)


def test_the_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens() -> None:
    logits = torch.tensor([2.0, -2.0, 0.0, 3.0, -1.0])
    found = penalize(logits, [0, 1, 1, 0, 2], 1.25)
    torch.testing.assert_close(found, torch.tensor([1.6, -2.5, 0.0, 3.0, -1.0]))
    assert logits[0] == 2  # the model's own logits stay
    settings = SamplingSettings(temperature=0, repetition_penalty=2.0)
    assert choose(logits, [3], settings, torch.Generator()) == 0


@given(
    logits=st.lists(st.integers(-300, 300).map(lambda tenths: tenths / 10), min_size=1, max_size=12),
    top_k=st.integers(0, 14),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
    temperature=st.floats(0.05, 5),
)
@settings(deadline=None, max_examples=60)
def test_some_token_always_remains(logits, top_k, top_p, min_p, temperature) -> None:
    filters = SamplingSettings(top_k=top_k, top_p=top_p, min_p=min_p, temperature=temperature)
    found = filtered_probabilities(torch.tensor(logits), filters)
    assert found.isfinite().all()
    assert found.sum().item() == pytest.approx(1, abs=1e-4)
    assert found[logits.index(max(logits))] == found.max()


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"min_p": 2}, {"max_tokens": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(TinyslmError, match=next(iter(wrong))):
        build_config(SamplingSettings, wrong)
