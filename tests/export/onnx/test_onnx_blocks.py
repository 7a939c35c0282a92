"""Matrices in 4 and 8 bits: how they are rounded, and that ONNX Runtime reads them as they are meant."""

import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tinyslm.export.onnx.blocks import BLOCK, Blocks, round_matrix


def restored(blocks: Blocks) -> torch.Tensor:
    """The matrix `[n, k]` that rounded blocks stand for."""

    def unpacked(packed: torch.Tensor) -> torch.Tensor:
        return packed if blocks.bits == 8 else torch.stack([packed & 15, packed >> 4], -1).flatten(-2)

    q_nci = unpacked(blocks.values).float()
    zeros_nc = unpacked(blocks.zeros)[:, : q_nci.shape[1]].float()
    return ((q_nci - zeros_nc[..., None]) * blocks.scales[..., None]).flatten(1)[:, : blocks.columns]


@pytest.mark.parametrize(("bits", "columns"), [(4, 64), (8, 64), (4, 96), (4, 40), (8, 40)])
def test_every_value_is_within_half_a_step_and_zero_stays_zero(bits: int, columns: int) -> None:
    weight = torch.randn(10, columns, generator=torch.Generator().manual_seed(1))
    weight[3] = 0
    weight[4, ::2] = 0
    weight[5] = weight[5].abs() + 2
    blocks = round_matrix(weight, bits)
    again = restored(blocks)
    assert again.shape == weight.shape
    assert (again[weight == 0] == 0).all()
    spread = weight.amax(1).clamp(min=0) - weight.amin(1).clamp(max=0)
    step = spread / (2**bits - 1)
    # In 4 bits the ends of a block may be cut off where that makes the sum of squares smaller.
    assert ((again - weight).abs().amax(1) <= step * (0.75 if bits == 8 else 4)).all()
    plain = ((torch.rand(10, columns) - 0.5) * step[:, None]).square().mean()  # what plain rounding gives, about
    assert (again - weight).square().mean() <= plain * 1.1


@pytest.mark.parametrize("bits", [4, 8])
def test_values_that_are_on_a_grid_already_stay_as_they_are(bits: int) -> None:
    steps = torch.randint(0, 2**bits, (8, 64), generator=torch.Generator().manual_seed(2)) - 5.0
    steps[:, ::BLOCK], steps[:, 1::BLOCK] = -5, 2**bits - 6
    weight = steps * 0.25
    torch.testing.assert_close(restored(round_matrix(weight, bits)), weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("group", [32, 128])
def test_what_was_rounded_to_4_bits_before_stays_as_it_is(group: int) -> None:
    """As in a folder that `tinyslm quantize` wrote: eight levels below zero, seven above, a scale for each group."""
    generator = torch.Generator().manual_seed(4)
    codes = torch.randn(100, 256 // group, group, generator=generator).mul(3).round().clamp(-8, 7)
    codes[7] = 0
    scale = (torch.rand(100, 256 // group, 1, generator=generator) + 0.5).bfloat16().float()
    weight = (codes * scale).flatten(1)
    torch.testing.assert_close(restored(round_matrix(weight, 4)), weight, atol=1e-5, rtol=1e-5)


def test_important_columns_come_out_nearer() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    important = torch.where(torch.arange(64) < 8, 100.0, 1.0)
    plain, weighed = (restored(round_matrix(weight, 4, which)) - weight for which in (None, important))
    assert weighed[:, :8].square().mean() < 0.8 * plain[:, :8].square().mean()


def test_rows_are_rounded_alike_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(50, 64)
    at_once = round_matrix(weight, 4)
    monkeypatch.setattr("tinyslm.export.onnx.blocks.ROWS", 16)
    assert all(torch.equal(*parts) for parts in zip(at_once[:3], round_matrix(weight, 4)[:3], strict=True))


@pytest.mark.parametrize(("bits", "columns"), [(4, 96), (8, 64), (4, 40), (8, 40)])
def test_onnx_runtime_reads_the_same_values(bits: int, columns: int) -> None:
    """One graph in which the matrix is a table of embeddings and a product, as in a model with tied weights."""
    blocks = round_matrix(torch.randn(48, columns), bits)
    session = onnxruntime.InferenceSession(_model(blocks, columns).SerializeToString())
    ids, inputs = torch.arange(48)[None], torch.randn(1, 3, columns)
    rows, products = session.run(None, {"ids": ids.numpy(), "inputs": inputs.numpy()})
    expected = restored(blocks)
    torch.testing.assert_close(torch.from_numpy(rows)[0, :, :columns], expected, atol=1e-6, rtol=1e-6)
    wanted = inputs @ expected.T
    assert (torch.from_numpy(products) - wanted).norm() < 0.02 * wanted.norm()  # the inputs are rounded to 8 bits


def _model(blocks: Blocks, columns: int):
    sizes = {"bits": blocks.bits, "block_size": BLOCK}
    tensors = {"flat": blocks.values.flatten(1), **blocks._asdict()}
    given = [
        numpy_helper.from_array(tensor.numpy(), name)
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    ]
    nodes = [
        helper.make_node(
            "GatherBlockQuantized", ["flat", "ids", "scales", "zeros"], ["rows"], domain="com.microsoft",
            gather_axis=0, quantize_axis=1, **sizes,
        ),
        helper.make_node(
            "MatMulNBits", ["inputs", "values", "scales", "zeros"], ["products"], domain="com.microsoft",
            K=columns, N=48, accuracy_level=4, **sizes,
        ),
    ]  # fmt: skip
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 48])
    inputs = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, [1, 3, columns])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("rows", "products")]
    graph = helper.make_graph(nodes, "both", [ids, inputs], outputs, given)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)
