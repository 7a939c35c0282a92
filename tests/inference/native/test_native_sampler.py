"""The native draw against NumPy's."""

import numpy as np
import pytest

from tinyslm.inference.native.runner import NativeRunner
from tinyslm.inference.sampler import SamplingBatch, draw


@pytest.fixture(scope="module")
def native_draw(compiled, make_model):
    return NativeRunner(make_model(depth=1), 1, native=compiled, threads=2).draw


@pytest.mark.parametrize("size", [5, 64, 100, 257, 4096])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tied", [False, True], ids=["no ties", "ties"])
def test_the_same_ids_as_numpy(size, masked, tied, native_draw):
    rng = np.random.default_rng(size)
    count = 60
    logits = (rng.standard_normal((count, size)) * rng.choice([0.1, 1, 3, 8], (count, 1))).astype(np.float32)
    logits = np.round(logits) if tied else logits
    allowed = rng.integers(0, 2**32, (count, -(-size // 32)), dtype=np.uint32) if masked else None
    draws = SamplingBatch(
        rng.choice([0, 0.3, 0.7, 1, 1.7], count).astype(np.float32),
        rng.choice([0, 1, 3, 50, 1000, 100000], count).astype(np.int32),
        rng.choice([1, 0.95, 0.5, 0.1, 0.999], count).astype(np.float32),
        rng.choice([0, 0.05, 0.3], count).astype(np.float32),
        rng.random(count),
        allowed,
    )
    np.testing.assert_array_equal(native_draw(logits, draws), draw(logits, draws))


def test_the_ends_of_chance_and_few_allowed_tokens(native_draw):
    logits = np.tile(np.linspace(-3, 3, 300, dtype=np.float32), (4, 1))
    allowed = np.zeros((4, 10), np.uint32)
    allowed[:2, 0], allowed[:2, 3], allowed[2:, 9] = 1 << 7, 1 << 4, 1 << 11
    chance = np.array([0.0, np.nextafter(1, 0), 0.0, 0.7])
    draws = SamplingBatch(
        np.ones(4, np.float32), np.zeros(4, np.int32), np.ones(4, np.float32), np.zeros(4, np.float32), chance, allowed
    )
    assert native_draw(logits, draws).tolist() == [7, 100, 299, 299]


def test_draws_fall_as_the_probabilities_say(native_draw):
    logits = np.log(np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)).repeat(4000, 0)
    chance = (np.arange(4000) + 0.5) / 4000
    ones, zeros = np.ones(4000, np.float32), np.zeros(4000, np.float32)
    counts = np.bincount(native_draw(logits, SamplingBatch(ones, zeros.astype(np.int32), ones, zeros, chance)))
    assert counts.tolist() == [400, 800, 1200, 1600]
