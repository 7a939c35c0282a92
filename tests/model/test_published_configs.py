"""Configs as published models have them: each is read as transformers reads it, or refused by name.

`published_configs.json` holds the fields of published models' `config.json` files, one model a line, with smaller sizes
(and windows, contexts and token ids). To try another model, add a line.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES, family_of
from tinyslm.model.folder import load_model, read_model_config, save_model

PUBLISHED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "published_configs.json").read_text())
LLAMA, NEOX, GEMMA = "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "EleutherAI/pythia-14m", "google/gemma-3-1b-it"
GPT2, OPT, TINY = "openai-community/gpt2", "facebook/opt-125m", "roneneldan/TinyStories-33M"
STABLE = "stabilityai/stablelm-2-1_6b"
ABSENT = "(left out)"
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 3e3}
CONTRADICTORY: dict[str, tuple[str, dict[str, Any]]] = {
    "neox, two bases": (NEOX, {"rotary_emb_base": 500, "rope_theta": 9e4}),
    "neox, two shares": (NEOX, {"rotary_pct": 0.5, "partial_rotary_factor": 1.0}),
    "neox, only the usual names": (NEOX, {
        "rotary_emb_base": ABSENT, "rotary_pct": ABSENT, "rope_theta": 500, "partial_rotary_factor": 1.0,
    }),
    "neox, parameters": (NEOX, {
        "rotary_emb_base": 500, "rotary_pct": 0.5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 2e3, "partial_rotary_factor": 1.0},
    }),
    "llama, two bases": (LLAMA, {"rope_theta": 500.0, "rope_parameters": {"rope_type": "default", "rope_theta": 9e4}}),
    "llama, scaling of one kind": (LLAMA, {
        "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": LINEAR,
    }),
    "llama, scaling of two kinds": (LLAMA, {
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 9e4},
    }),
    "llama, two names of a kind": (LLAMA, {"rope_scaling": {"type": "dynamic", "rope_type": "linear", "factor": 2.0}}),
    "gemma, a private pattern": (GEMMA, {"_sliding_window_pattern": 2, "sliding_window_pattern": ABSENT}),
    "gemma, two patterns": (GEMMA, {"_sliding_window_pattern": 2, "sliding_window_pattern": 3}),
    "gemma, a pattern and a list": (GEMMA, {
        "sliding_window_pattern": 2, "layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 5,
    }),
    "gemma, scaling and parameters": (GEMMA, {
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_parameters": {"full_attention": LINEAR, "sliding_attention": {"rope_type": "default", "rope_theta": 3e2}},
    }),
    "gpt_neo, a list and a pattern": (TINY, {"attention_layers": ["local", "local", "global", "global"]}),
    "gpt_neo, a pattern": (TINY, {"attention_layers": ABSENT, "attention_types": [[["local"], 3], [["global"], 1]]}),
    "gpt2, other names": (GPT2, {"n_embd": ABSENT, "n_layer": ABSENT, "hidden_size": 48, "num_hidden_layers": 2}),
}  # fmt: skip


def with_change(name: str, change: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**PUBLISHED[name], **change}.items() if value is not ABSENT}


def with_their_weights(config: dict[str, Any], folder: Path) -> Any:
    """Write a model folder with this very config and random weights of transformers' model; returns that model."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(5)
    read = transformers.AutoConfig.from_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_config(read, dtype=torch.float32)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=0.1 if parameter.ndim == 1 else 0.0, std=0.2)
    tensors = {name: tensor for name, tensor in theirs.state_dict().items() if name not in theirs.all_tied_weights_keys}
    save_file(tensors, folder / "model.safetensors")
    return theirs.eval()


@torch.no_grad()
def check_logits(ours: Decoder, theirs: Any) -> None:
    ids = torch.randint(0, ours.config.vocab_size, (2, 48), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_gives_the_logits_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = with_their_weights(PUBLISHED[name], tmp_path / "model")
    check_logits(load_model(tmp_path / "model"), theirs)


@pytest.mark.parametrize("case", CONTRADICTORY)
def test_fields_that_contradict_each_other_are_read_as_transformers_reads_them(case: str, tmp_path: Path) -> None:
    name, change = CONTRADICTORY[case]
    theirs = with_their_weights(with_change(name, change), tmp_path / "model")
    check_logits(load_model(tmp_path / "model"), theirs)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        (GPT2, {"hidden_size": 64}, "hidden_size = 64, but n_embd = 48"),
        (LLAMA, {"activation": "relu"}, "activation = 'relu'"),
        ("microsoft/Phi-4-mini-instruct", {"full_attn_mod": 2}, "full_attn_mod = 2"),
        (LLAMA, {"rope_interleaved": True}, "rope_interleaved"),
        (LLAMA, {"use_mrope": True}, "use_mrope"),
        (LLAMA, {"sliding_window": 8}, "sliding_window"),
        (LLAMA, {"logit_scale": 0}, "logit_scale"),
        (OPT, {"do_layer_norm_before": False, "word_embed_proj_dim": 32}, "do_layer_norm_before = False"),  # OPT-350M
        (OPT, {"word_embed_proj_dim": 32}, "word_embed_proj_dim = 32 .* does not implement"),
        (OPT, {"_remove_final_layer_norm": True}, "_remove_final_layer_norm"),
        (TINY, {"attention_layers": ["global", "local"]}, "do not name 4 blocks"),
        (TINY, {"attention_layers": ABSENT, "attention_types": [[["global"], 10**12]]}, "do not name 4 blocks"),
        (STABLE, {"qk_layernorm": True}, "qk_layernorm"),
        (GEMMA, {"rope_parameters": {"full_attention": LINEAR, "rope_theta": 10.0}}, "rope_parameters"),
    ],
    ids=str,
)
def test_a_field_that_switches_something_on_is_refused(name: str, change: Any, named: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(with_change(name, change)))
    with pytest.raises(TinyslmError, match=named):
        read_model_config(tmp_path)


@pytest.mark.parametrize("value", [None, False])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_field_that_switches_nothing_on_is_ignored(family: str, value: Any, tmp_path: Path) -> None:
    config = FAMILIES[family].config_to_hf(ModelConfig(family=family))
    found = FAMILIES[family].config_from_hf({**config, "use_something_new": value})
    assert found == FAMILIES[family].config_from_hf(config)


@pytest.mark.parametrize("model_type", ["mamba", "minicpm", "olmo", "gpt_neoxx", "gemma", "qwen2_moe", "llama4"])
def test_an_unknown_architecture_is_refused_with_those_that_are_supported(model_type: str) -> None:
    with pytest.raises(TinyslmError, match=f'"{model_type}"') as refused:
        family_of(model_type)
    assert "did you mean" not in str(refused.value).lower()
    assert all(family.model_type in refused.value.remedy for family in map(FAMILIES.__getitem__, FAMILIES))


@pytest.mark.parametrize(("name", "shards"), [(LLAMA, 1), (LLAMA, 2), (NEOX, 1), (GPT2, 1)])
def test_a_tied_config_with_an_output_of_its_own_in_the_file_is_not_tied(
    name: str, shards: int, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    theirs = with_their_weights(with_change(name, {"tie_word_embeddings": True}), folder)
    output = "embed_out.weight" if name == NEOX else "lm_head.weight"
    add_tensor(folder, output, theirs.get_input_embeddings().weight.detach() + 0.5, shards)
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model(folder)
    check_logits(ours, again)
    assert not read_model_config(folder).tied
    save_model(ours, tmp_path / "saved")
    check_logits(load_model(tmp_path / "saved"), again)


@pytest.mark.parametrize("kept", ["both", "output"])
def test_a_tied_model_may_be_stored_under_either_name(kept: str, tmp_path: Path) -> None:
    theirs = with_their_weights(PUBLISHED["HuggingFaceTB/SmolLM-135M"], tmp_path / "model")
    add_tensor(tmp_path / "model", "lm_head.weight", theirs.get_input_embeddings().weight.detach().clone())
    if kept == "output":
        weights = tmp_path / "model" / "model.safetensors"
        tensors = load_file(weights)
        del tensors["model.embed_tokens.weight"]
        save_file(tensors, weights)
    ours = load_model(tmp_path / "model")
    assert ours.config.tied
    check_logits(ours, theirs)


def add_tensor(folder: Path, name: str, tensor: torch.Tensor, shards: int = 1) -> None:
    """Add a tensor to the weights of a folder: to its file, or as a second shard."""
    weights = folder / "model.safetensors"
    if shards == 1:
        save_file({**load_file(weights), name: tensor}, weights)
        return
    parts = {"model-1.safetensors": load_file(weights), "model-2.safetensors": {name: tensor}}
    weights.unlink()
    for file, tensors in parts.items():
        save_file(tensors, folder / file)
    places = {tensor: file for file, tensors in parts.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
