"""Adapters of a quantized base (QLoRA): it stays packed, and the gradients are those of its unpacked weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.quantizing import quantize
from tinyslm.core.config import build_config
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.adapted import AdaptedModel
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, read_model_config, save_model
from tinyslm.model.lora import adapter_tensors, add_adapters, load_adapters, merged_copy
from tinyslm.model.lora_config import LoraConfig
from tinyslm.model.loss import log_probs, loss_sum
from tinyslm.model.packed import PackedLinear
from tinyslm.planning.finetune import finetune
from tinyslm.planning.train import resume
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.finetuning_memory import peak_bytes
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.pipeline import Watch
from tinyslm.training.stages import first_model

IDS = torch.arange(24).view(2, 12)
SETTINGS = {
    "optimizer": {"lr": 0.01},
    "lora": {"rank": 4},
    "train": {"batch": 2, "steps": 4, "checkpoint_minutes": 0.0, "device": "cpu"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `tinyslm quantize` wrote."""
    torch.manual_seed(0)
    root, tokenizer = tmp_path_factory.mktemp("qlora"), train_tokenizer([], kind="byte")
    shape = {"dim": 64, "heads": 2, "depth": 2, "context": 128, "vocab_size": tokenizer.vocab_size, "init_std": 0.1}
    save_model(Decoder(ModelConfig(**shape)), root / "dense", tokenizer)
    quantize(root / "dense", root / "int4", QuantizeConfig(method="rtn", judge_tokens=500))
    return root / "int4"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}?", "answer": str(n)}) + "\n" for n in range(20)))
    return path


@pytest.fixture(scope="module")
def run(base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    finetune(base, [rows], out, settings=SETTINGS)
    return out


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("take", [loss_sum, log_probs])
def test_gradients_are_those_of_the_unpacked_base(base: Path, dora: bool, take) -> None:
    config = {"lora": {"rank": 4, "dora": dora}, "train": {"start_from": str(base), "steps": 1, "device": "cpu"}}
    packed = first_model(build_config(RunConfig, config), torch.device("cpu"))
    assert sum(isinstance(module, PackedLinear) for module in packed.modules()) == 2 * 7 + 1
    dense = load_model(base, dense=True)
    torch.manual_seed(1)
    add_adapters(dense, LoraConfig(rank=4, dora=dora))
    for name, parameter in dense.named_parameters():
        if name.endswith("adapter.B"):
            torch.nn.init.normal_(parameter, std=0.1)
    packed.load_state_dict(adapter_tensors(dense), strict=False)
    found = []
    for model in (dense, packed):
        hidden_nd = model.model(IDS).flatten(0, 1)
        total = take(model, hidden_nd, IDS.flatten()).sum() / IDS.numel()
        total.backward()
        found.append({name: one.grad for name, one in model.named_parameters() if ".adapter." in name})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert gradient.abs().max() > 0
        assert torch.allclose(found[1][name], gradient, atol=1e-5), name
    assert all(module._kernel is None for module in packed.modules() if isinstance(module, PackedLinear))


def test_the_predicted_memory_is_less_than_that_of_the_unpacked_base(base: Path) -> None:
    def peak(folder: Path) -> int:
        train = {"start_from": str(folder), "steps": 1, "device": "cpu", "stage": "sft", "batch": 1, "dtype": "fp32"}
        shape = read_model_config(folder).model_copy(update={"tied": False})
        return peak_bytes(build_config(RunConfig, {"lora": {"rank": 4}, "train": train, "model": shape.model_dump()}))

    stored = (base / "model.safetensors").stat().st_size
    in_fp32 = 4 * read_model_config(base).parameters
    assert peak(base.parent / "dense") - peak(base) == pytest.approx(in_fp32 - stored, rel=1e-3)


def test_a_forward_pass_keeps_no_unpacked_matrix(base: Path) -> None:
    model = load_model(base)
    add_adapters(model, LoraConfig(rank=2))
    shapes = {(one.out_features, one.in_features) for one in model.modules() if isinstance(one, PackedLinear)}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        loss_sum(model, model.model(IDS).flatten(0, 1), IDS.flatten())
    assert not [one.shape for one in kept if one.is_floating_point() and tuple(one.shape) in shapes]


def test_a_run_from_a_quantized_base(base: Path, rows: Path, run: Path, tmp_path: Path) -> None:
    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 2:
            raise Interrupted(2)

    with pytest.raises(Interrupted):
        finetune(base, [rows], tmp_path / "run", settings=SETTINGS, watch=Watch(event=stop))
    assert resume(tmp_path / "run")["loss"] == json.loads((run / "result.json").read_text())["loss"]
    (checkpoint,) = list((tmp_path / "run" / "checkpoints").glob("step-*"))[-1:]
    assert (checkpoint / "model.safetensors").stat().st_size < (base / "model.safetensors").stat().st_size
    merged, adapted = load_model(tmp_path / "run" / "model"), load_model(base, dense=True)
    load_adapters(adapted, tmp_path / "run" / "adapter", base)
    assert torch.allclose(adapted(IDS), merged(IDS), atol=1e-4)
    assert not torch.allclose(load_model(base, dense=True)(IDS), merged(IDS), atol=1e-2)


@pytest.mark.parametrize("kind", ["auto", "torch"])
def test_an_engine_with_an_adapter_of_a_quantized_base(kind: str, base: Path, run: Path) -> None:
    engine = open_engine(AdaptedModel(base, run), kind, device="cpu")
    assert any(isinstance(module, PackedLinear) for module in engine.model.modules())
    merged = open_engine(run, "torch", device="cpu")
    assert np.allclose(engine.embed(IDS[0].tolist()), merged.embed(IDS[0].tolist()), atol=0.02)
    assert not np.allclose(open_engine(base).embed(IDS[0].tolist()), merged.embed(IDS[0].tolist()), atol=0.05)
    assert torch.allclose(engine.model(IDS), merged.model(IDS), atol=0.05)
    greedy = SamplingSettings(max_tokens=4, temperature=0.0)
    assert engine.complete("1?", greedy)[0].tokens == merged.complete("1?", greedy)[0].tokens
    copy = merged_copy(engine.model, torch.bfloat16)
    assert {one.dtype for one in copy.parameters()} == {torch.bfloat16}
