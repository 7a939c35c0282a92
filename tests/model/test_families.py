"""Each family, in both directions, against transformers: same logits, same config, no tensor lost."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from running import logits_of
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.torch_runner import TorchRunner
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import load_model, read_model_config, save_model

SMALL = {"vocab_size": 320, "dim": 64, "depth": 3, "context": 48, "heads": 4}
YARN = {"kind": "yarn", "factor": 2.0, "original_context": 24}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "original_context": 24}
LONGROPE = {
    "kind": "longrope", "original_context": 24, "short_factor": (1.0, 1.1, 1.4, 2.0),
    "long_factor": (1.2, 2.0, 5.0, 9.0),
}  # fmt: skip
PHI_SCALING = {
    "rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3, 2, 2.5], "long_factor": [1.5, 2, 3, 4, 5, 6.5],
}  # fmt: skip
OURS: dict[str, dict[str, Any]] = {
    "qwen3": {"kv_heads": 2, "head_dim": 32, "ffn_dim": 128, "rope_theta": 5e4},
    "qwen3 tied": {"kv_heads": 4, "tied": True},
    "qwen3 biases, window in upper blocks": {
        "attention_bias": True, "output_bias": True, "window": 9, "window_layers": (1, 2),
    },
    "qwen3 yarn": {"rope_scaling": YARN},
    "llama": {"kv_heads": 1, "ffn_dim": 96},
    "llama tied": {"heads": 8, "kv_heads": 2, "tied": True},
    "llama biases": {"attention_bias": True, "output_bias": True, "ffn_bias": True},
    "llama linear": {"rope_scaling": {"kind": "linear", "factor": 3.0}},
    "llama dynamic": {"context": 24, "rope_scaling": {"kind": "dynamic", "factor": 2.0}},
    "llama llama3": {"rope_scaling": LLAMA3},
    "llama yarn": {"rope_scaling": {**YARN, "attention_factor": 1.3, "beta_fast": 16.0, "truncate": False}},
    "mistral": {"window": 8},
    "mistral no window": {},
    "qwen2": {"kv_heads": 2},
    "qwen2 window": {"window": 7, "window_layers": (2,)},
    "smollm3": {"depth": 5},
    "smollm3 window": {"depth": 5, "window": 8, "window_layers": (3,), "unrotated_layers": (1, 3), "tied": False},
    "granite": {
        "embedding_scale": 12.0, "attention_scale": 0.02, "residual_scale": 0.22, "logit_divisor": 8.0, "tied": True,
    },
    "granitemoehybrid": {
        "kv_heads": 2, "embedding_scale": 12.0, "attention_scale": 0.02, "residual_scale": 0.25, "logit_divisor": 4.0,
    },
    "granitemoehybrid without positions": {"dim": 96, "unrotated_layers": (0, 1, 2), "tied": True},
    "olmo2": {"kv_heads": 2},
    "olmo3": {"depth": 5, "window": 8, "kv_heads": 2, "rope_scaling": YARN},
    "olmo3 no window": {"window": 0, "rope_theta": 3e4},
    "gemma2": {"depth": 4, "window": 8, "head_dim": 24, "kv_heads": 1},
    "gemma2 strongly capped": {
        "window": 8, "window_layers": (1,), "attention_cap": 1.5, "logit_cap": 5.0, "attention_scale": 0.125,
        "tied": False,
    },
    "gemma2 not capped": {"attention_cap": 0.0, "logit_cap": 0.0, "window": 0},
    "gemma3": {"depth": 7, "window": 8, "head_dim": 24, "kv_heads": 1},
    "gemma3 capped, scaled": {
        "window": 8, "window_layers": (0, 2), "logit_cap": 5.0, "attention_scale": 0.125,
        "rope_scaling": {"kind": "linear", "factor": 8.0},
    },
    "phi": {},
    "phi gelu": {"feed_forward": "gelu", "tied": True, "kv_heads": 2, "rotary_share": 0.25},
    "phi3": {"window": 8},
    "phi3 partial": {"rotary_share": 0.75, "tied": True},
    "phi3 longrope, short": {"rotary_share": 0.5, "tied": True, "rope_scaling": {**LONGROPE, "original_context": 44}},
    "phi3 longrope, long": {"rotary_share": 0.5, "rope_scaling": {**LONGROPE, "factor": 2.0, "attention_factor": 1.3}},
    "gpt_neox": {},
    "gpt_neox serial": {"residual": "serial", "attention_bias": False, "output_bias": False, "rotary_share": 1.0},
    "stablelm": {"kv_heads": 2},
    "stablelm parallel": {"residual": "parallel_one_norm", "attention_bias": True, "rotary_share": 0.5, "tied": True},
    "gpt_neo": {"window": 8},
    "gpt_neo global": {"window": 0, "window_layers": (), "tied": False, "feed_forward": "gelu", "ffn_dim": 96},
    "opt": {},
    "opt plain": {"attention_bias": False, "output_bias": False, "ffn_bias": False, "feed_forward": "gelu"},
    "gpt2": {},
    "gpt2 untied": {"heads": 2, "tied": False, "feed_forward": "gelu", "ffn_dim": 96},
    "tinyslm": {},
}  # fmt: skip
THEIRS: dict[str, dict[str, Any]] = {
    "Qwen3": {"head_dim": 24, "tie_word_embeddings": True},
    "Qwen3 windows": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "attention_bias": True},
    "Llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 3e4}},
    "Llama llama3": {
        "attention_bias": True, "mlp_bias": True,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 20,
        },
    },
    "Llama yarn": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.4,
        },
    },
    "Llama dynamic": {"max_position_embeddings": 16, "rope_parameters": {
        "rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0,
    }},
    "Mistral": {"sliding_window": 8},
    "Mistral no window": {"sliding_window": None},
    "Qwen2": {"sliding_window": 8},
    "SmolLM3": {"num_hidden_layers": 5, "pad_token_id": 0},
    "Granite": {
        "embedding_multiplier": 6.0, "attention_multiplier": 0.1, "residual_multiplier": 0.5, "logits_scaling": 4.0,
    },
    "GraniteMoeHybrid": {
        "embedding_multiplier": 6.0, "attention_multiplier": 0.1, "residual_multiplier": 0.5, "logits_scaling": 4.0,
        "position_embedding_type": "rope", "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
    },
    "GraniteMoeHybrid without positions": {"attention_bias": True, "layer_types": ["attention", "attention"]},
    "Olmo2": {},
    "Olmo3": {"sliding_window": 8, "num_hidden_layers": 5, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12, "attention_factor": 1.2,
    }},
    "Olmo3 bases": {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"], "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 3e3},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e2},
    }},
    "Gemma2": {
        "num_hidden_layers": 3, "head_dim": 24, "sliding_window": 8, "query_pre_attn_scalar": 20,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0,
    },
    "Gemma2 not capped": {
        "head_dim": 16, "sliding_window": 8, "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "Gemma3Text": {"num_hidden_layers": 7, "head_dim": 24, "sliding_window": 8, "query_pre_attn_scalar": 20},
    "Gemma3Text capped": {
        "head_dim": 16, "sliding_window": 8, "final_logit_softcapping": 4.0,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "Phi": {},
    "Phi3": {"pad_token_id": 0, "sliding_window": 8},
    "Phi3 longrope, crossed": {
        "pad_token_id": 0, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 16,
        "rope_scaling": PHI_SCALING, "tie_word_embeddings": True,
    },
    "Phi3 longrope, short": {"pad_token_id": 0, "partial_rotary_factor": 0.75, "rope_scaling": PHI_SCALING},
    "GPTNeoX": {},
    "GPTNeoX serial": {"use_parallel_residual": False, "hidden_act": "gelu_new"},
    "StableLm": {},
    "GPTNeo": {"window_size": 8},
    "OPT": {},
    "GPT2": {},
}  # fmt: skip
PADDED = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
LIKE_LLAMA = PADDED | {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48}
SIZES = {
    "GPT2": {"vocab_size": 300, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 48},
    "GPTNeo": {
        "vocab_size": 300, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 48,
        "intermediate_size": 96, "attention_types": [[["global", "local"], 1]],
    },
    "OPT": {
        "vocab_size": 300, "hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 48,
    },
}  # fmt: skip


NEEDED = {
    "GraniteMoeHybrid": {
        "num_local_experts": 0, "shared_intermediate_size": 96, "layer_types": ["full_attention", "full_attention"],
    },
}  # fmt: skip
"""Without these fields, transformers takes a config of the family for something that is not implemented here."""


def small_model(case: str) -> Decoder:
    torch.manual_seed(7)
    return scattered(Decoder(ModelConfig(family=case.partition(" ")[0], **{**SMALL, **OURS[case]})))


def scattered(model: Any) -> Any:
    """Biases and norms too, so that none of them can be lost unnoticed."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1 if parameter.ndim == 1 else 0.0, std=0.2)
    return model.eval()


def their_model(case: str) -> Any:
    name = case.partition(" ")[0]
    shape = SIZES.get(name, LIKE_LLAMA)
    if name == "GPTNeoX":
        shape = {key: value for key, value in LIKE_LLAMA.items() if key != "num_key_value_heads"}
    config = getattr(transformers, f"{name}Config")(**{**shape, **NEEDED.get(name, {}), **THEIRS[case]})
    torch.manual_seed(3)
    model = scattered(transformers.AutoModelForCausalLM.from_config(config))
    if name == "OPT":  # two rows that nothing reads, and that are written as zeros
        model.model.decoder.embed_positions.weight.data[:2] = 0
    return model


def opened_by_transformers(folder: Path) -> Any:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@pytest.mark.parametrize("case", OURS)
@torch.no_grad()
def test_transformers_computes_the_same_logits_from_a_folder_written_here(case: str, tmp_path: Path) -> None:
    model = small_model(case)
    save_model(model, tmp_path / "model")
    theirs = opened_by_transformers(tmp_path / "model")
    ids = torch.randint(0, 300, (2, 40))
    torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", THEIRS)
@torch.no_grad()
def test_a_folder_written_by_transformers_gives_the_same_logits_here(case: str, tmp_path: Path) -> None:
    theirs = their_model(case)
    theirs.save_pretrained(tmp_path / "model")
    ids = torch.randint(0, 300, (2, 40))
    ours = load_model(tmp_path / "model")
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", THEIRS)
@torch.no_grad()
def test_left_padded_batches_equal_transformers(case: str, tmp_path: Path) -> None:
    theirs = their_model(case)
    theirs.save_pretrained(tmp_path / "model")
    padding = torch.tensor([0, 5, 17])
    ids = torch.randint(0, 300, (3, 30))
    mask = (torch.arange(30) >= padding[:, None]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    wanted = theirs(ids, attention_mask=mask, position_ids=positions).logits
    found = load_model(tmp_path / "model")(ids, padding_b=padding)
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", THEIRS)
@torch.no_grad()
def test_steps_through_the_cache_equal_transformers_past_the_window(case: str, tmp_path: Path) -> None:
    theirs = their_model(case)
    theirs.save_pretrained(tmp_path / "model")
    ours = load_model(tmp_path / "model")
    ids = torch.randint(0, 300, (2, 30))
    parts = [5, *[1] * 15, 10]  # at the end, many at once behind a past
    found = logits_of(TorchRunner(ours, 4), ids, parts)
    past = None
    wanted = []
    for start, stop in [(0, 5), *[(at, at + 1) for at in range(5, 20)], (20, 30)]:
        out = theirs(ids[:, start:stop], past_key_values=past, use_cache=True)
        past = out.past_key_values
        wanted.append(out.logits[:, -1])
    ends = [4, *range(5, 20), 29]
    torch.testing.assert_close(found[:, ends], torch.stack(wanted, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", OURS)
@torch.no_grad()
def test_one_token_at_a_time_equals_the_whole(case: str) -> None:
    model = small_model(case)
    ids = torch.randint(0, 300, (2, 24))
    found = logits_of(TorchRunner(model, 4), ids, [3, *[1] * 21])
    torch.testing.assert_close(found, model(ids), atol=1e-4, rtol=0)


def test_every_family_has_cases_in_both_directions() -> None:
    names = {case.partition(" ")[0] for case in THEIRS}
    assert {case.partition(" ")[0] for case in OURS} == set(FAMILIES)
    types = {getattr(transformers, f"{name}Config").model_type for name in names}
    assert types == {FAMILIES[name].model_type for name in FAMILIES}


@pytest.mark.parametrize("case", OURS)
def test_config_and_weights_survive_a_round_trip(case: str, tmp_path: Path) -> None:
    model = small_model(case)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    family = "gpt2" if case == "tinyslm" else model.config.family  # outside, the article's model is a GPT-2
    assert again.config == model.config.model_copy(update={"family": family})
    for (name, before), (_, after) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(before, after), name


@pytest.mark.parametrize("case", THEIRS)
def test_their_config_and_weights_survive_a_round_trip(case: str, tmp_path: Path) -> None:
    theirs = their_model(case)
    theirs.save_pretrained(tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours")
    again = opened_by_transformers(tmp_path / "ours")
    for (name, before), (_, after) in zip(theirs.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(before, after), name
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "ours"))
    general = {"transformers_version", "torch_dtype", "dtype", "_name_or_path", *SPECIAL_TO_TRANSFORMERS}
    for key in before.keys() - general:
        told = getattr(again.config, key) if hasattr(again.config, key) else after.get(key)
        if key == "rope_parameters":  # with what was left to the defaults
            told = {
                name: {inner: told[name][inner] for inner in was} if isinstance(was, dict) else told[name]
                for name, was in before[key].items()
            }
        assert told == before[key], key


SPECIAL_TO_TRANSFORMERS = (
    "bos_token_id", "eos_token_id", "pad_token_id", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop",
    "hidden_dropout", "classifier_dropout", "max_window_layers", "sliding_window", "no_rope_layer_interval",
    "n_inner", "original_max_position_embeddings", "mamba_n_heads", "mamba_d_head", "num_experts_per_tok",
    "time_step_limit",
)  # fmt: skip
"""Fields that are not about the mathematics, or (from max_window_layers on) say the same in another way."""


@pytest.mark.parametrize("case", OURS)
def test_parameters_are_counted_from_the_shape(case: str) -> None:
    model = small_model(case)
    assert model.config.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted({case.partition(" ")[0] for case in THEIRS}))
def test_what_a_config_leaves_out_means_what_transformers_takes_it_for(name: str, tmp_path: Path) -> None:
    # So many heads that the numbers of key heads which transformers takes for granted divide them.
    sizes = SIZES.get(name) or {**LIKE_LLAMA, "num_attention_heads": 32, "hidden_size": 256}
    sizes = {key: value for key, value in sizes.items() if key != "num_key_value_heads"} | NEEDED.get(name, {})
    full = getattr(transformers, f"{name}Config")(**sizes).to_dict()
    for folder, fields in (("part", {**sizes, "model_type": full["model_type"]}), ("full", full)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(fields))
    assert read_model_config(tmp_path / "part") == read_model_config(tmp_path / "full")


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mamba"},
        {"hidden_act": "relu"},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}, "rope_parameters": None},
        {"logit_softcap": 30.0},
        {"partial_rotary_factor": 0.5},
        {"quantization_config": {"quant_method": "gptq"}},
        {"layer_types": ["full_attention", "linear_attention", "full_attention"]},
    ],
)
def test_a_config_with_other_mathematics_is_refused_by_name(change: dict, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match=next(iter(change))):
        load_model(changed(tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": "three"},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": True},
        {"hidden_size": -1},
        {"hidden_size": 2**40},
        {"num_attention_heads": 0},
        {"rope_parameters": 5},
        {"rope_parameters": {"rope_type": "yarn", "factor": "x"}},
        {"rope_parameters": {"rope_type": "linear", "factor": 0}},
        {"hidden_act": ["silu"]},
        {"head_dim": 7},
        {"layer_types": 3},
        {"sliding_window": "wide", "use_sliding_window": True, "layer_types": None, "max_window_layers": 0},
        {"tie_word_embeddings": "perhaps"},
        {"rms_norm_eps": None},
        {"rope_theta": 0, "rope_parameters": None},
    ],
    ids=str,
)
def test_a_config_that_makes_no_sense_is_a_mistake_in_two_lines(change: dict, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError):
        load_model(changed(tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e3}},
        {"rope_parameters": {"full_attention": {}, "sliding_attention": {}, "chunked_attention": {"rope_theta": 1e4}}},
        {"rope_parameters": {"sliding_attention": {"rope_type": "default", "factor": 8.0}}},
        {"sliding_window_pattern": 0, "layer_types": None},
    ],
    ids=str,
)
def test_parts_of_gemmas_positions_are_not_left_unread(change: dict, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError):
        read_model_config(changed(tmp_path, change, "gemma3"))


@pytest.mark.parametrize(
    "change",
    [
        {"num_local_experts": 8},
        {"num_local_experts": None},
        {"layer_types": ["attention", "mamba", "attention"]},
        {"layer_types": None},
        {"position_embedding_type": "alibi"},
        {"normalization_function": "layernorm"},
    ],
    ids=str,
)
def test_granite_models_with_experts_or_mamba_layers_are_refused_by_name(change: dict, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match=next(iter(change))):
        read_model_config(changed(tmp_path, change, "granitemoehybrid"))


@pytest.mark.parametrize("name", ["su", "yarn"])
def test_old_names_of_longrope_are_read_as_transformers_reads_them(name: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, {"rope_parameters": None}, "phi3 longrope, long")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    scaling = {key: value for key, value in config["rope_scaling"].items() if key not in ("rope_type", "factor")}
    path.write_text(json.dumps({**config, "rope_scaling": {**scaling, "type": name}}))
    assert read_model_config(folder).rope_scaling.kind == "longrope"
    ids = torch.randint(0, 300, (1, 40))
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(folder)(ids), opened_by_transformers(folder)(ids).logits, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "longrope", "short_factor": [1.0, 2.0]},
        {"type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [1.0, 2.0]},  # four pairs of values turn
        {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 3.0, 0.0]},
        {"type": "yarn", "factor": 4.0},
        {"type": "linear", "factor": 4.0},
    ],
    ids=str,
)
def test_scalings_that_a_phi_cannot_have_are_refused(scaling: dict, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError):
        read_model_config(changed(tmp_path, {"rope_scaling": scaling, "rope_parameters": None}, "phi3 longrope, long"))


def test_key_heads_of_null_are_as_many_as_query_heads(tmp_path: Path) -> None:
    assert read_model_config(changed(tmp_path, {"num_key_value_heads": None}, "mistral")).kv_heads == 4


def test_a_shallow_gemma_has_a_block_that_sees_everything() -> None:
    assert ModelConfig(family="gemma3", depth=1).window == 0
    assert ModelConfig(family="gemma3", depth=4).window_layers == (0, 1, 2)
    assert ModelConfig(family="gemma3", depth=8).window_layers == (0, 1, 2, 3, 4, 6, 7)


@pytest.mark.parametrize("field", ["hidden_size", "vocab_size", "num_hidden_layers", "intermediate_size"])
def test_a_config_without_a_size_says_which(field: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, {})
    config = json.loads((folder / "config.json").read_text())
    del config[field]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TinyslmError, match=field):
        read_model_config(folder)


def changed(tmp_path: Path, change: dict, case: str = "qwen3") -> Path:
    save_model(small_model(case), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("family", "settings", "named"),
    [
        ("llama", {"qk_norm": True}, "qk_norm"),
        ("llama", {"window": 8}, "window"),
        ("mistral", {"window": 8, "window_layers": (0,)}, "window_layers"),
        ("gpt2", {"heads": 4, "kv_heads": 2}, "kv_heads"),
        ("gpt2", {"feed_forward": "swiglu"}, "feed_forward"),
        ("gemma3", {"embedding_scale": 2.0}, "embedding_scale"),
        ("qwen3", {"attention_bias": True}, "output_bias"),
        ("qwen3", {"unrotated_layers": (1,)}, "unrotated_layers"),
        ("granite", {"rotary_share": 0.5}, "rotary_share"),
        ("phi3", {"rope_scaling": YARN}, "none or longrope"),
        ("granitemoehybrid", {"unrotated_layers": (1,)}, "unrotated_layers"),
        ("llama", {"window_layers": (1,)}, "window"),
        ("mistral", {"window": 8, "window_layers": (9,)}, "window_layers"),
    ],
)
def test_a_family_refuses_what_its_config_cannot_say(family: str, settings: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ModelConfig(family=family, **settings)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_trains(family: str) -> None:
    from tinyslm.training.stage import Batch
    from tinyslm.training.stages.pretrain import next_token_loss

    torch.manual_seed(1)
    model = Decoder(ModelConfig(family=family, **SMALL)).train()
    batch = torch.randint(0, 300, (2, 25))
    total, weight, _ = next_token_loss(model, Batch.of_windows(batch))
    total.backward()
    assert total.item() / weight == pytest.approx(5.77, abs=0.4)  # nothing is known yet: ln(320)
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing


def test_a_gpt2_folder_without_the_prefix_loads(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = small_model("gpt2")
    save_model(model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    save_file({name.removeprefix("transformer."): tensor for name, tensor in load_file(weights).items()}, weights)
    (tmp_path / "model" / "tinyslm.json").unlink()
    ids = torch.randint(0, 300, (1, 10))
    assert torch.equal(load_model(tmp_path / "model")(ids), model(ids))
