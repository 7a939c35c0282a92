"""A base with an adapter: which base it belongs to, and the merged model."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.adapted import AdaptedModel, find_adapter
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.model.lora import add_adapters, save_adapters
from tinyslm.model.lora_config import LoraConfig
from tinyslm.model.weights import weights_hash
from tinyslm.tokenizer.training import train_tokenizer

IDS = torch.arange(12)[None]


def write_base(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = train_tokenizer([], kind="byte")
    shape = {"dim": 32, "heads": 4, "kv_heads": 2, "depth": 1, "context": 64, "init_std": 0.3}
    save_model(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), folder, tokenizer)
    return folder


def write_adapter(base: Path, folder: Path) -> Decoder:
    """An adapter of `base` that does something; returns the model with it."""
    model, config = load_model(base), LoraConfig(rank=2, alpha=4)
    add_adapters(model, config)
    for name, parameter in model.named_parameters():
        if name.endswith("adapter.B"):
            parameter.data += 0.3 * torch.randn_like(parameter)
    assert save_adapters(model, folder, config, base)
    return model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def test_an_engine_answers_with_the_adapter_that_a_run_folder_holds(base: Path, tmp_path: Path) -> None:
    model = write_adapter(base, tmp_path / "run" / "adapter")
    engine = open_engine(AdaptedModel(base, tmp_path / "run"), "torch", device="cpu")
    assert torch.allclose(engine.model(IDS), model(IDS), atol=1e-5)
    greedy = SamplingSettings(max_tokens=8, temperature=0.0)
    assert (
        engine.complete("ab", greedy)[0].ids != open_engine(base, "torch", device="cpu").complete("ab", greedy)[0].ids
    )


def test_an_adapter_of_other_weights_is_refused(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter")
    other = write_base(tmp_path / "other", seed=1)
    with pytest.raises(TinyslmError, match="trained on another model") as caught:
        AdaptedModel(other, tmp_path / "adapter").load(dtype=torch.float32)
    assert "base.json" in caught.value.remedy
    (tmp_path / "adapter" / "base.json").unlink()  # as in folders that PEFT wrote: the shapes are checked
    AdaptedModel(other, tmp_path / "adapter").load(dtype=torch.float32)


def test_the_chat_template_of_the_training_is_that_of_the_adapter(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter")
    adapted = AdaptedModel(base, tmp_path / "adapter")
    assert adapted.load_tokenizer().chat_template == load_tokenizer(base).chat_template
    model, config = load_model(base), LoraConfig(rank=2)
    add_adapters(model, config)
    tokenizer = load_tokenizer(base).with_template("{{ messages[0].content }}!")
    save_adapters(model, tmp_path / "adapter", config, base, tokenizer)
    engine = open_engine(adapted, "torch", device="cpu")
    asked = engine.chat_ids([{"role": "user", "content": "Hello"}])
    assert engine.tokenizer.decode(asked) == "Hello!"


def test_no_adapter_where_there_is_none(base: Path) -> None:
    with pytest.raises(TinyslmError, match="There is no adapter in"):
        find_adapter(base)


def test_the_hash_depends_on_the_tensors_alone(base: Path, tmp_path: Path) -> None:
    before, weights = weights_hash(base), base / "model.safetensors"
    tensors = load_file(weights)
    save_file(dict(reversed(tensors.items())), weights, metadata={"other": "header"})
    assert weights_hash(base) == before
    name = "model.norm.weight"
    for changed in (tensors[name] + 1e-6, tensors[name].bfloat16(), tensors[name][None]):
        shutil.rmtree(tmp_path / "changed", ignore_errors=True)
        shutil.copytree(base, tmp_path / "changed")
        save_file({**tensors, name: changed}, tmp_path / "changed" / "model.safetensors")
        assert weights_hash(tmp_path / "changed") != before
