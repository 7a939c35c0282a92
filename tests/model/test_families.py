"""Each family, in both directions, against transformers: same logits, same config, no tensor lost."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, read_model_config, save_model

SMALL = {"vocab_size": 320, "dim": 64, "depth": 3, "context": 48}
OURS = {
    "qwen3": {"heads": 4, "kv_heads": 2, "head_dim": 32, "ffn_dim": 128, "tied": True, "rope_theta": 5e4},
    "qwen3 untied": {"heads": 4, "kv_heads": 4, "tied": False},
    "llama": {"heads": 4, "kv_heads": 1, "ffn_dim": 96, "tied": False},
    "llama tied": {"heads": 8, "kv_heads": 2, "tied": True},
    "gpt2": {"heads": 4},
    "gpt2 untied": {"heads": 2, "tied": False, "feed_forward": "gelu", "ffn_dim": 96},
    "tinyslm": {"heads": 4},
}
THEIRS = {
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=24, max_position_embeddings=40, tie_word_embeddings=True,
        )
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=40,
            rope_parameters={"rope_type": "default", "rope_theta": 3e4},
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=40)),
}  # fmt: skip


def small_model(case: str) -> Decoder:
    torch.manual_seed(7)
    model = Decoder(ModelConfig(family=case.partition(" ")[0], **{**SMALL, **OURS[case]}))
    for parameter in model.parameters():  # biases and norms too, so that none of them can be lost unnoticed
        torch.nn.init.normal_(parameter, mean=0.1, std=0.2)
    return model.eval()


@pytest.mark.parametrize("case", OURS)
def test_transformers_computes_the_same_logits_from_a_folder_written_here(case: str, tmp_path: Path) -> None:
    model = small_model(case)
    save_model(model, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    ids = torch.randint(0, 300, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", THEIRS)
def test_a_folder_written_by_transformers_gives_the_same_logits_here(case: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = THEIRS[case]().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.2)
    theirs.save_pretrained(tmp_path / "model")
    ids = torch.randint(0, 300, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "model")(ids), theirs(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", OURS)
def test_config_and_weights_survive_a_round_trip(case: str, tmp_path: Path) -> None:
    model = small_model(case)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    family = "gpt2" if case == "tinyslm" else model.config.family  # outside, the article's model is a GPT-2
    assert again.config == model.config.model_copy(update={"family": family})
    for (name, before), (_, after) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(before, after), name


@pytest.mark.parametrize("case", OURS)
def test_parameters_are_counted_from_the_shape(case: str) -> None:
    model = small_model(case)
    assert model.config.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "change",
    [{"model_type": "mamba"}, {"hidden_act": "relu"}, {"rope_scaling": {"type": "linear"}}, {"logit_softcap": 30.0}],
)
def test_a_config_with_other_mathematics_is_refused_by_name(change: dict, tmp_path: Path) -> None:
    import json

    save_model(small_model("qwen3"), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(TinyslmError, match=next(iter(change))):
        read_model_config(tmp_path / "model")


def test_a_gpt2_folder_without_the_prefix_loads(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = small_model("gpt2")
    save_model(model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    save_file({name.removeprefix("transformer."): tensor for name, tensor in load_file(weights).items()}, weights)
    (tmp_path / "model" / "tinyslm.json").unlink()
    ids = torch.randint(0, 300, (1, 10))
    assert torch.equal(load_model(tmp_path / "model")(ids), model(ids))
