"""Shapes of models with a given number of parameters."""

import pytest

from tinyslm.model.sizing import shape_of, table_parameters


@pytest.mark.parametrize("parameters", [1_000_000, 10_000_000, 100_000_000])
@pytest.mark.parametrize("vocab_size", [320, 4096])
def test_shapes_have_the_parameters_asked_for(parameters: int, vocab_size: int) -> None:
    shape = shape_of(parameters, vocab_size, context=512)
    assert shape is not None
    assert shape.parameters == pytest.approx(parameters, rel=0.02)
    assert 2 * vocab_size * shape.dim == table_parameters(shape)
    assert (shape.vocab_size, shape.context) == (vocab_size, 512)


@pytest.mark.parametrize(("parameters", "vocab_size"), [(1_000_000, 32_768), (10, 320), (1, 1)])
def test_some_sizes_have_no_shape(parameters: int, vocab_size: int) -> None:
    assert shape_of(parameters, vocab_size) is None
