"""LoRA: adapters change nothing at first, train alone, merge exactly, and are PEFT's files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.layers import Linear
from tinyslm.model.lora import (
    add_adapters,
    has_adapters,
    load_adapters,
    merge_adapters,
    merged_copy,
    save_adapters,
    without_adapters,
)
from tinyslm.model.lora_config import LoraConfig
from tinyslm.model.packed import PackedLinear, pack

KINDS = {
    "plain": {},
    "rank-stabilised": {"rank_stabilised": True},
    "dora": {"dora": True},
    "some layers": {"targets": ("q_proj", "down_proj")},
}
IDS = torch.arange(12)[None]


def decoder(**more) -> Decoder:
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "dim": 32, "heads": 4, "kv_heads": 2, "depth": 2, "context": 16, "init_std": 0.2}
    return Decoder(ModelConfig(**shape, **more)).eval()


def adapted(**more) -> tuple[Decoder, LoraConfig]:
    """A model whose adapters do something."""
    model, config = decoder(), LoraConfig(rank=4, alpha=8, **more)
    add_adapters(model, config)
    for name, parameter in model.named_parameters():
        if name.endswith(("adapter.B", "adapter.magnitude")):
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model, config


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_changes_nothing_and_trains_alone(kind: str) -> None:
    model, base = decoder(), decoder()
    add_adapters(model, LoraConfig(rank=4, **KINDS[kind]))
    assert torch.allclose(model(IDS), base(IDS), atol=1e-5)
    model(IDS).sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if ".adapter." in name}
    layers = {name.split(".adapter.")[0].rpartition(".")[2] for name in trained}
    assert layers == set(KINDS[kind].get("targets", ())) or len(layers) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_unmerged(kind: str) -> None:
    model, _ = adapted(**KINDS[kind])
    before = model(IDS)
    assert not torch.allclose(before, decoder()(IDS), atol=1e-2), "it differs from the base"
    merge_adapters(model)
    assert not has_adapters(model)
    assert torch.allclose(model(IDS), before, atol=1e-5)
    assert set(model.state_dict()) == set(decoder().state_dict())


def test_a_merged_copy_and_the_base_leave_the_model_as_it_is() -> None:
    model, _ = adapted()
    before = model(IDS)
    assert torch.allclose(merged_copy(model, torch.float32)(IDS), before, atol=1e-5)
    with without_adapters(model):
        assert torch.equal(model(IDS), decoder()(IDS))
    assert torch.equal(model(IDS), before)
    assert any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_written_and_read(kind: str, tmp_path: Path) -> None:
    model, config = adapted(**KINDS[kind])
    assert save_adapters(model, tmp_path / "adapter", config, Path("base"))
    again = decoder()
    load_adapters(again, tmp_path / "adapter")
    assert torch.equal(again(IDS), model(IDS))


def test_a_quantized_base_stays_as_it_is(tmp_path: Path) -> None:
    base = decoder()
    for name, module in list(base.model.layers.named_modules()):
        if isinstance(module, Linear):
            scale = (module.weight.detach().abs().amax(1) / 127).bfloat16()
            codes = (module.weight.detach() / scale.float()[:, None]).round().clamp(-128, 127)
            base.model.layers.set_submodule(name, PackedLinear(pack(codes.to(torch.int8), scale, 8)))
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    add_adapters(base, LoraConfig(rank=4))
    out = base(IDS)
    out.sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items() if name in before)
    for _, parameter in base.named_parameters():
        if parameter.requires_grad and parameter.shape[0] != 4:
            parameter.data += 0.3
    unmerged = base(IDS)
    merge_adapters(base)
    assert torch.allclose(base(IDS), unmerged, atol=1e-4)


def test_families_whose_files_hold_several_matrices_as_one_are_merged_only(tmp_path: Path) -> None:
    model = Decoder(ModelConfig(family="gpt2", vocab_size=40, dim=32, heads=4, depth=1, context=16))
    config = LoraConfig(rank=2)
    add_adapters(model, config)
    assert not save_adapters(model, tmp_path / "adapter", config, Path("base"))
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors, config: tensors.update({"base_model.model.x.lora_A.weight": torch.zeros(1)}), "fits no layer"),
        (lambda tensors, config: tensors.pop(next(iter(tensors))), "that fits the layer"),
        (lambda tensors, config: config.update(peft_type="IA3"), "not supported"),
        (lambda tensors, config: config.update(layers_to_transform=[1]), "layers_to_transform"),
        (lambda tensors, config: config.update(bias="all"), "not supported"),
    ],
)
def test_what_is_not_known_is_an_error(change, words: str, tmp_path: Path) -> None:
    model, config = adapted()
    save_adapters(model, tmp_path, config, Path("base"))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    given = json.loads((tmp_path / "adapter_config.json").read_text())
    change(tensors, given)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(given))
    with pytest.raises(TinyslmError, match=words):
        load_adapters(decoder(), tmp_path)


def test_layers_that_are_not_there_are_named() -> None:
    with pytest.raises(TinyslmError, match='no linear layer "c_attn"'):
        add_adapters(decoder(), LoraConfig(rank=4, targets=("c_attn",)))
