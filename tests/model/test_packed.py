"""Packed weights come back, and packed layers compute what the unpacked ones do."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tinyslm.model.packed import FEW_ROWS, Layout, PackedLinear, PackedTensor, pack

LOWEST = {4: -8, 8: -127}


def packed(rows: int, columns: int, bits: int, group: int = 32) -> tuple[PackedTensor, Tensor]:
    """A random packed matrix and its values."""
    groups = columns // group if bits == 4 else 1
    codes = torch.randint(LOWEST[bits], -LOWEST[bits], (rows, columns))
    scale = (torch.randn(rows, groups) / -LOWEST[bits]).bfloat16()
    values = (codes.view(rows, groups, -1) * scale.float().unsqueeze(-1)).flatten(1)
    return pack(codes, scale if bits == 4 else scale.squeeze(1), bits), values


@pytest.mark.parametrize(("bits", "group"), [(8, 32), (4, 32), (4, 64), (4, 128)])
def test_packed_values_come_back_exactly(bits, group):
    torch.manual_seed(0)
    matrix, values = packed(6, 256, bits, group)
    assert matrix.dense().equal(values)
    assert matrix.shape == (6, 256)
    assert matrix.layout == (Layout(8) if bits == 8 else Layout(4, group))


def test_even_columns_lie_in_the_low_halves():
    matrix = pack(torch.tensor([[-8, 7] * 16]), torch.ones(1, 1, dtype=torch.bfloat16), 4)
    assert matrix.codes.unique().tolist() == [0xF0]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 3, 200])
@pytest.mark.parametrize("outputs", [48, 37])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_packed_layer_computes_what_the_unpacked_one_does(bits, rows, outputs, dtype):
    torch.manual_seed(0)
    matrix, values = packed(outputs, 128, bits)
    bias = torch.nn.Parameter(torch.randn(outputs).to(dtype))
    x = torch.randn(2, rows, 128).to(dtype)
    y = PackedLinear(matrix, bias)(x)
    expected = F.linear(x.float(), values, bias.float())
    assert y.dtype == dtype
    assert y.shape == (2, rows, outputs)
    assert (y.float() - expected).abs().max() < 0.02 * expected.abs().max()
    if dtype == torch.float32 and 2 * rows > FEW_ROWS[bits]:
        assert torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("width", [8, 40, 72, 100, 112])
def test_eight_bits_of_any_width(width):
    """PyTorch's kernel alone gives wrong numbers for most of these."""
    torch.manual_seed(0)
    matrix, values = packed(37, width, 8)
    for rows in (1, 2, 5):
        x = torch.randn(rows, width)
        expected = x @ values.t()
        assert (PackedLinear(matrix)(x) - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("offset", [0, 1])
def test_codes_and_activations_at_any_address(bits, offset):
    """PyTorch's 8-bit kernel alone crashes on addresses that are not aligned, which files give."""
    torch.manual_seed(0)
    matrix, values = packed(32, 64, bits)
    buffer = torch.empty(matrix.codes.numel() + 64, dtype=matrix.codes.dtype)
    codes = buffer[offset : offset + matrix.codes.numel()].view(matrix.codes.shape)
    codes.copy_(matrix.codes)
    layer = PackedLinear(PackedTensor(codes, matrix.scale))
    x = torch.randn(1, 5 * 64 + 16).bfloat16()[:, offset : offset + 5 * 64].unflatten(1, (5, 64))
    expected = x.float() @ values.t()
    assert (layer(x).float() - expected).abs().max() < 0.02 * expected.abs().max()
