"""Rounding a matrix: to nearest with fitted scales, and by GPTQ."""

import pytest
import torch
from torch import Tensor

from tinyslm.compression import rounding
from tinyslm.compression.gptq import gptq
from tinyslm.compression.rounding import best_scales, nearest, plain_scales, round_to_nearest
from tinyslm.model.packed import Layout, PackedTensor

FOUR, EIGHT = Layout(bits=4, group_size=32), Layout(bits=8)


def correlated(count: int, width: int) -> Tensor:
    """Inputs of a layer in which a few directions hold most of the size."""
    mix = torch.randn(width, width) * torch.logspace(0, -2, width).unsqueeze(1)
    return torch.randn(count, width) @ mix


def output_error(packed: PackedTensor, weight: Tensor, inputs: Tensor) -> float:
    return ((inputs @ (packed.dense() - weight).t()).square().mean() / (inputs @ weight.t()).square().mean()).item()


def test_fitted_scales_lose_less_than_the_largest_value_on_the_last_code():
    torch.manual_seed(0)
    weight = torch.randn(64, 256)
    groups = weight.view(64, -1, 32)
    scale = groups.abs().amax(-1, keepdim=True) / 7
    plain = ((groups / scale).round() * scale - groups).square().mean()
    fitted = (round_to_nearest(weight, FOUR).dense() - weight).square().mean()
    assert fitted < 0.75 * plain


def test_plain_scales_put_the_largest_value_on_the_lowest_code():
    values = torch.tensor([[1.0, -3.0, 0.5, 2.0], [0.0, 4.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    scale = plain_scales(values, 4).float()
    assert scale.tolist() == [0.375, -0.5, 1.0]
    assert nearest(values, scale.unsqueeze(1), 4)[:2].amin(1).tolist() == [-8, -8]


def test_a_matrix_larger_than_a_chunk_is_rounded_as_a_whole(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    weight, importance = torch.randn(40, 64), torch.rand(64)
    whole = round_to_nearest(weight, FOUR, importance).dense()
    monkeypatch.setattr(rounding, "CHUNK", 3 * 64)
    assert round_to_nearest(weight, FOUR, importance).dense().equal(whole)
    assert not round_to_nearest(weight, FOUR).dense().equal(whole)


def test_values_on_the_grid_are_kept_as_they_are():
    torch.manual_seed(0)
    codes = torch.randint(-8, 8, (16, 64)).float()
    codes[:, ::32] = -8
    assert round_to_nearest(codes / 4, FOUR).dense().equal(codes / 4)


@pytest.mark.parametrize("layout", [FOUR, EIGHT], ids=["int4", "int8"])
def test_zeros_stay_zeros(layout):
    weight = torch.zeros(4, 64)
    weight[0, 3] = 1
    packed = round_to_nearest(weight, layout)
    assert packed.dense()[1:].equal(weight[1:])
    assert packed.dense()[0, 3] == pytest.approx(1, rel=0.01)
    assert gptq(weight, torch.zeros(64, 64), layout).dense().isfinite().all()


def test_important_values_lose_less():
    torch.manual_seed(0)
    values = torch.randn(64, 32)
    importance = torch.ones(32)
    importance[:4] = 1000
    miss = []
    for weights in (None, importance):
        scale = best_scales(values, 4, weights).float().unsqueeze(1)
        miss.append((nearest(values, scale, 4) * scale - values)[:, :4].square().mean())
    assert miss[1] < 0.5 * miss[0]


def test_eight_bits_lose_far_less_than_four():
    torch.manual_seed(0)
    weight = torch.randn(64, 128)
    miss = [(round_to_nearest(weight, layout).dense() - weight).square().mean() for layout in (FOUR, EIGHT)]
    assert miss[1] < miss[0] / 50


@pytest.mark.parametrize("layout", [FOUR, Layout(bits=4, group_size=128), EIGHT], ids=["32", "128", "int8"])
@pytest.mark.parametrize("width", [128, 384])
def test_gptq_beats_rounding_to_nearest_on_correlated_inputs(layout, width):
    torch.manual_seed(0)
    weight, inputs = torch.randn(48, width), correlated(4096, width)
    packed = gptq(weight, inputs.t() @ inputs, layout)
    assert packed.layout == layout
    unseen = correlated_like(inputs)
    assert output_error(packed, weight, unseen) < 0.6 * output_error(round_to_nearest(weight, layout), weight, unseen)


def correlated_like(inputs: Tensor) -> Tensor:
    """Other inputs with the same second moments."""
    return torch.randn(len(inputs), len(inputs)) / len(inputs) ** 0.5 @ inputs


def test_gptq_with_inputs_that_have_nothing_to_do_with_each_other_is_rounding_to_nearest():
    torch.manual_seed(0)
    weight = torch.randn(16, 64)
    assert gptq(weight, torch.eye(64), FOUR).dense().allclose(round_to_nearest(weight, FOUR).dense())
