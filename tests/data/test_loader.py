import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.errors import TinyslmError
from tinyslm.data.loader import Loader, permuted


class Counting:
    """A split whose token at each place is that place."""

    name = "train"

    def __init__(self, tokens):
        self.tokens = tokens

    def slice(self, start, length):
        assert start >= 0
        assert start + length <= self.tokens
        return np.arange(start, start + length, dtype=np.uint32)


@given(
    tokens=st.integers(2, 400),
    context=st.integers(1, 50),
    batch=st.integers(1, 7),
    seed=st.integers(0, 3),
    stop=st.integers(0, 20),
)
@settings(deadline=None)
def test_a_restored_loader_goes_on_with_exactly_the_next_batch(tokens, context, batch, seed, stop):
    context = min(context, tokens - 1)
    whole = Loader(Counting(tokens), context=context, batch=batch, seed=seed)
    expected = [whole.next() for _ in range(stop + 5)]
    first = Loader(Counting(tokens), context=context, batch=batch, seed=seed)
    for _ in range(stop):
        first.next()
    resumed = Loader(Counting(tokens), context=context, batch=batch, seed=seed)
    resumed.restore(json.loads(json.dumps(first.state())))
    for after in expected[stop:]:
        assert after.dtype == np.int64
        assert after.shape == (batch, context + 1)
        np.testing.assert_array_equal(resumed.next(), after)


@given(tokens=st.integers(2, 300), context=st.integers(1, 40), seed=st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_has_every_window_once_and_loses_less_than_two(tokens, context, seed):
    context = min(context, tokens - 1)
    loader = Loader(Counting(tokens), context=context, batch=1, seed=seed)
    for _ in range(2):
        epoch, starts = loader.state()["epoch"], []
        while loader.state()["epoch"] == epoch:
            (window,) = loader.next()
            assert (np.diff(window) == 1).all()
            starts.append(int(window[0]))
        assert sorted(starts) == list(range(min(starts), min(starts) + len(starts) * context, context))
        assert tokens - 1 - len(starts) * context < 2 * context


def test_epochs_and_seeds_differ():
    def epoch(seed, number):
        loader = Loader(Counting(10_000), context=10, batch=1, seed=seed)
        loader.restore({"epoch": number, "position": 0})
        return [int(loader.next()[0, 0]) for _ in range(900)]

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0)]
    for order in orders:
        assert order != sorted(order)
        assert abs(np.corrcoef(np.arange(900), order)[0, 1]) < 0.15
    assert len({order[0] % 10 for order in orders} | {min(order) for order in orders}) > 1
    assert orders[0] != orders[1] != orders[2]
    assert epoch(0, 0) == orders[0]


def test_too_few_tokens_are_told():
    with pytest.raises(TinyslmError, match=r"has 10 tokens; a window of context 10 needs 11"):
        Loader(Counting(10), context=10, batch=2, seed=0)


@given(st.integers(1, 2000), st.integers(0, 100))
@settings(deadline=None)
def test_permuted_is_a_permutation(count, seed):
    keys = np.random.SeedSequence(seed).generate_state(5, np.uint64)
    assert sorted(permuted(np.arange(count), count, keys).tolist()) == list(range(count))
