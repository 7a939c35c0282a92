"""Quantized model folders: other programs read ours, we read theirs, and what cannot be read is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinyslm.compression.rounding import round_to_nearest
from tinyslm.compression.schemes import plan
from tinyslm.compression.writing import State, write_quantized
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_json
from tinyslm.model.compressed_tensors import from_stored, to_stored
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, read_model_config, save_model
from tinyslm.model.packed import PackedLinear, StoredEmbedding, is_packed, pack

FAMILIES = ["qwen3", "phi3", "gpt_neox", "gemma3", "opt"]
"""Llama's names, two matrices stored as one, three stored head by head, and other names."""


def small(family: str, **fields: object) -> Decoder:
    torch.manual_seed(2)
    return Decoder(
        ModelConfig(
            **{"family": family, "vocab_size": 100, "dim": 64, "heads": 4, "ffn_dim": 96, "depth": 2, "context": 32},
            **{"init_std": 0.2, "tied": False, **fields},
        )
    ).eval()


def quantized(folder: Path, model: Decoder, scheme: str) -> Path:
    """A folder with the model rounded to nearest."""
    source = folder.with_name("source")
    save_model(model, source)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    if not model.config.tied:
        tensors["lm_head.weight"] = model.lm_head.weight.detach()
    packed = {
        name: round_to_nearest(tensors.pop(name), layout) for name, layout in plan(model, scheme, 32).layouts.items()
    }
    folder.mkdir()
    write_quantized(source, folder, model.config, State(packed, tensors))
    return folder


def change(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return quantized(tmp_path / "model", small("qwen3"), "int4")


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
@pytest.mark.parametrize("scheme", ["int4", "int4-mixed", "int8"])
def test_packed_folders_of_every_kind_of_family_are_read(tmp_path, family, scheme):
    quantized(tmp_path / "model", small(family), scheme)
    dense, model = load_model(tmp_path / "model", dense=True), load_model(tmp_path / "model")
    assert not is_packed(dense)
    assert sum(isinstance(module, PackedLinear) for module in model.modules()) > 2 * 4
    assert isinstance(model.model.embed_tokens, StoredEmbedding)
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
    ids = torch.randint(100, (2, 20))
    expected = dense(ids)
    assert (model(ids) - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("scheme", "dtype"), [("int4-mixed", torch.float32), ("int8", torch.bfloat16)])
def test_transformers_computes_the_same(tmp_path, family, scheme, dtype):
    """With the package compressed-tensors."""
    from transformers import AutoModelForCausalLM

    quantized(tmp_path / "model", small(family), scheme)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=dtype).eval()
    ids = torch.randint(100, (2, 20))
    with torch.no_grad():
        expected = theirs(ids).logits.float()
        ours = load_model(tmp_path / "model", dense=True)(ids)
    limit = 1e-5 if dtype == torch.float32 else 0.05
    assert (ours - expected).abs().max() < limit * expected.abs().max()


def test_a_tied_table_that_is_not_quantized_is_read(tmp_path):
    """As other programs write it."""
    folder = quantized(tmp_path / "model", small("qwen3", tied=True), "int4")
    model = load_model(folder)
    assert is_packed(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not any("lm_head" in name for name in load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("width", [32, 33, 34, 35])
def test_eight_bits_of_any_width_come_back(tmp_path, width):
    matrix = pack(torch.randint(-127, 128, (3, width)), torch.randn(3).bfloat16(), 8)
    stored = to_stored({"a.weight": matrix})
    assert stored["a.weight_packed"].shape == (3, -(-width // 4))
    found = from_stored(stored, tmp_path)["a.weight"]
    assert found.codes.equal(matrix.codes)
    assert found.scale.equal(matrix.scale)


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "awq", "tinyslm", None])
def test_another_programs_quantization_is_refused_by_its_name(folder, method):
    change(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(TinyslmError, match=str(method)):
        load_model(folder)


@pytest.mark.parametrize(
    "found", [7, "int4", ["int4"], {"quant_method": "compressed-tensors", "format": "pack-quantized"}]
)
def test_a_quantization_config_that_holds_no_settings_is_refused(folder, found):
    change(folder, quantization_config=found)
    with pytest.raises(TinyslmError, match="quantization_config"):
        load_model(folder)


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ((), {"format": "float-quantized"}, "float-quantized"),
        ((), {"kv_cache_scheme": {"num_bits": 8}}, "cache"),
        (("group_0",), {"input_activations": {"num_bits": 8}}, "activations"),
        (("group_0", "weights"), {"symmetric": False}, "symmetric"),
        (("group_0", "weights"), {"num_bits": 3}, "bits"),
    ],
)
def test_what_the_format_has_and_we_do_not_is_refused(folder, place, value, named):
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    inner = config if not place else config["config_groups"]
    for key in place:
        inner = inner[key]
    inner.update(value)
    change(folder, quantization_config=config)
    with pytest.raises(TinyslmError, match=named):
        load_model(folder)


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        *((part, damage) for part in ("weight_packed", "weight_scale") for damage in ("missing", "shape", "type")),
        ("weight_shape", "missing"),
        ("weight_shape", "shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(folder, part, damage):
    name = f"model.layers.1.mlp.up_proj.{part}"
    tensors = load_file(folder / "model.safetensors")
    if damage == "missing":
        del tensors[name]
    elif damage == "shape":
        tensors[name] = tensors[name][1:].contiguous()
    else:
        tensors[name] = tensors[name].to(torch.int16)
    save_file(tensors, folder / "model.safetensors")
    (folder / "tinyslm.json").unlink()
    with pytest.raises(TinyslmError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load_model(folder)


def test_a_packed_matrix_of_another_shape_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    for part in ("_packed", "_scale"):
        tensors[name + part] = tensors[name + part][1:].contiguous()
    tensors[name + "_shape"] -= torch.tensor([1, 0])
    save_file(tensors, folder / "model.safetensors")
    (folder / "tinyslm.json").unlink()
    with pytest.raises(TinyslmError, match="instead of"):
        load_model(folder)


def test_the_shape_of_a_quantized_model_is_read_as_of_any_other(folder):
    assert read_model_config(folder) == small("qwen3").config
