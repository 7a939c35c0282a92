"""Our adapters in peft, and peft's in ours: the same files, the same logits."""

from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model
from tinyslm.model.lora import add_adapters, load_adapters, save_adapters
from tinyslm.model.lora_config import LoraConfig

IDS = torch.arange(12)[None]
KINDS = {"plain": {}, "rank-stabilised": {"rank_stabilised": True}, "dora": {"dora": True}}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "dim": 32, "heads": 4, "kv_heads": 2, "depth": 2, "context": 32, "init_std": 0.2}
    folder = tmp_path_factory.mktemp("base") / "base"
    save_model(Decoder(ModelConfig(family="llama", **shape)), folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_peft_reads_ours(kind: str, base: Path, tmp_path: Path) -> None:
    model, config = load_model(base), LoraConfig(rank=4, alpha=8, **KINDS[kind])
    add_adapters(model, config)
    for name, parameter in model.named_parameters():
        if name.endswith(("adapter.B", "adapter.magnitude")):
            parameter.data += 0.2 * torch.randn_like(parameter)
    assert save_adapters(model, tmp_path / "adapter", config, base)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    with torch.no_grad():
        assert torch.allclose(theirs(IDS).logits, model.eval()(IDS), atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_of_the_vocabulary(tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "dim": 32, "heads": 4, "kv_heads": 2, "depth": 1, "context": 32, "init_std": 0.2}
    save_model(Decoder(ModelConfig(family="llama", tied=tied, **shape)), tmp_path / "base")
    model, config = load_model(tmp_path / "base"), LoraConfig(rank=4, alpha=8, token_rows=(64, 65))
    add_adapters(model, config)
    for name, parameter in model.named_parameters():
        if name.endswith(("adapter.B", "adapter.rows")):
            parameter.data += 0.2 * torch.randn_like(parameter)
    assert save_adapters(model, tmp_path / "adapter", config, tmp_path / "base")
    enlarged = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    enlarged.resize_token_embeddings(66)
    theirs = peft.PeftModel.from_pretrained(enlarged, tmp_path / "adapter")
    ids = torch.tensor([[64, 3, 65, 5, 64]])
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, model.eval()(ids), atol=1e-4)
    theirs.save_pretrained(tmp_path / "again", save_embedding_layers=False)
    again = load_model(tmp_path / "base")
    load_adapters(again, tmp_path / "again")
    with torch.no_grad():
        assert torch.allclose(again(ids), model(ids), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_we_read_peft_s(kind: str, base: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    options = {"use_rslora": kind == "rank-stabilised", "use_dora": kind == "dora"}
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM", **options)
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    theirs.eval().save_pretrained(tmp_path / "adapter")
    model = load_model(base)
    load_adapters(model, tmp_path / "adapter")
    with torch.no_grad():
        assert torch.allclose(model.eval()(IDS), theirs(IDS).logits, atol=1e-4)
