"""Packed weights come back, packed layers compute what the unpacked ones do, odd folders are refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_json
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, read_model_config, save_model, state_tensors
from tinyslm.model.packed import (
    FEW_ROWS,
    PackedEmbedding,
    PackedLinear,
    PackedTensor,
    Packing,
    is_packed,
    pack,
)

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
    assert matrix.layout.bits == bits
    assert matrix.layout.group_size == (0 if bits == 8 else group)
    assert matrix.nbytes == (6 * 256 + 2 * 6 if bits == 8 else 6 * 128 + 2 * 6 * 256 // group)


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


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_table_gives_its_rows(bits):
    torch.manual_seed(0)
    matrix, values = packed(10, 64, bits)
    ids = torch.tensor([[3, 0], [9, 3]])
    assert PackedEmbedding(matrix, torch.float32)(ids).equal(values[ids])


def quantized(folder: Path, model: Decoder, bits: int) -> Path:
    """A packed model folder, its codes rounded plainly."""
    save_model(model, folder)
    tensors: dict[str, Tensor] = {}
    layouts = {}
    for name, tensor in state_tensors(model).items():
        if tensor.ndim < 2:
            tensors[name] = tensor
            continue
        groups = tensor.view(len(tensor), -1, 32) if bits == 4 else tensor.unsqueeze(1)
        scale = (groups.abs().amax(-1, keepdim=True) / -LOWEST[bits]).bfloat16()
        codes = (groups / scale.float()).round().clamp(LOWEST[bits], -LOWEST[bits] - 1).flatten(1)
        matrix = pack(codes, scale.squeeze(-1) if bits == 4 else scale.view(-1), bits)
        tensors |= matrix.stored(name)
        layouts[name] = matrix.layout
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "tinyslm.json").unlink()
    change(folder, quantization_config=Packing(scheme="test", tensors=layouts).model_dump(mode="json"))
    return folder


def change(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, **fields})


def small(family: str, **fields: object) -> Decoder:
    torch.manual_seed(2)
    return Decoder(
        ModelConfig(
            family=family, vocab_size=100, dim=64, heads=4, ffn_dim=96, depth=2, context=32, init_std=0.2, **fields
        )
    ).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return quantized(tmp_path / "model", small("qwen3"), 4)


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "tinyslm", "phi3", "gpt_neox", "gemma3"])
@pytest.mark.parametrize("bits", [4, 8])
def test_every_family_reads_packed_folders(tmp_path, family, bits):
    quantized(tmp_path / "model", small(family), bits)
    dense, model = load_model(tmp_path / "model", dense=True), load_model(tmp_path / "model")
    assert not is_packed(dense)
    assert sum(isinstance(module, PackedLinear) for module in model.modules()) > 2 * 4
    ids = torch.randint(100, (2, 20))
    expected = dense(ids)
    assert (model(ids) - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_tied_table_is_held_once(tmp_path):
    folder = quantized(tmp_path / "model", small("qwen3", tied=True), 4)
    model = load_model(folder)
    assert isinstance(model.lm_head, PackedLinear)
    assert isinstance(model.model.embed_tokens, PackedEmbedding)
    assert model.lm_head.weight_packed.data_ptr() == model.model.embed_tokens.weight_packed.data_ptr()
    assert not any("lm_head" in name for name in load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "awq", None])
def test_another_programs_quantization_is_refused_by_its_name(folder, method):
    change(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(TinyslmError, match=str(method)):
        load_model(folder)


@pytest.mark.parametrize("found", [7, "int4", ["int4"]])
def test_a_quantization_config_that_holds_no_settings_is_refused(folder, found):
    change(folder, quantization_config=found)
    with pytest.raises(TinyslmError, match="quantization_config"):
        load_model(folder)


def test_a_newer_version_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    change(folder, quantization_config={**config, "version": 2})
    with pytest.raises(TinyslmError, match="version"):
        load_model(folder)


@pytest.mark.parametrize("part", ["weight_packed", "weight_scale"])
@pytest.mark.parametrize("damage", ["missing", "shape", "type"])
def test_parts_that_do_not_fit_are_refused_by_name(folder, part, damage):
    name = f"model.layers.1.mlp.up_proj.{part}"
    tensors = load_file(folder / "model.safetensors")
    if damage == "missing":
        del tensors[name]
    elif damage == "shape":
        tensors[name] = tensors[name][:, 1:].contiguous()
    else:
        tensors[name] = tensors[name].float()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(TinyslmError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load_model(folder)


def test_a_packed_matrix_of_another_shape_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    for part in ("_packed", "_scale"):
        tensors[name + part] = tensors[name + part][1:].contiguous()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(TinyslmError, match="instead of"):
        load_model(folder)


def test_the_shape_of_a_packed_model_is_read_as_of_any_other(folder):
    assert read_model_config(folder) == small("qwen3").config
