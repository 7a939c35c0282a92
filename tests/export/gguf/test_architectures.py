"""Every family's settings and tensors survive the way into GGUF's names and back."""

import pytest
import torch
from gguf.constants import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf.architectures import ARCHITECTURES, architecture_of_gguf
from tinyslm.export.gguf.rope_scaling import divisors_of
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import state_tensors
from tinyslm.model.rope_scaling import rope_frequencies

SIZES = {"vocab_size": 96, "dim": 64, "depth": 4, "heads": 4, "ffn_dim": 96, "context": 64}


def model_of(family: str, **settings) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(ModelConfig(family=family, **{**SIZES, **settings}))
    for tensor in state_tensors(model).values():
        tensor.copy_(torch.randn(tensor.shape) * 0.1)
    return model


def there_and_back(model: Decoder) -> tuple[dict, dict]:
    """Settings and tensors as an import of the export would find them."""
    architecture, config, tensors = ARCHITECTURES[model.config.family], model.config, state_tensors(model)
    written = dict(architecture.tensors_to_gguf(config, tensors))
    settings = architecture.settings(architecture.metadata(config), written)
    expected = {name: tensor.shape for name, tensor in tensors.items()}
    return settings, dict(architecture.tensors_from_gguf(config, written, expected))


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_settings_and_tensors_come_back(family: str) -> None:
    model = model_of(family)
    architecture = ARCHITECTURES[family]
    assert architecture.why_not(model.config, state_tensors(model)) == ""
    _, tensors = there_and_back(model)
    for name, tensor in state_tensors(model).items():
        torch.testing.assert_close(tensors.pop(name), tensor)
    assert not tensors


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_names_are_those_of_the_gguf_package(family: str) -> None:
    architecture = ARCHITECTURES[family]
    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    allowed = {TENSOR_NAMES[tensor].replace("{bid}", "{}") for tensor in MODEL_TENSORS[arch]}
    for part in architecture.parts:
        if part.written:
            assert part.outside.rsplit(".", 1)[0] in allowed


@pytest.mark.parametrize(
    "scaling",
    [
        {"kind": "linear", "factor": 4.0},
        {"kind": "llama3", "factor": 8.0, "original_context": 32},
        {"kind": "yarn", "factor": 4.0, "original_context": 32},
        {"kind": "yarn", "factor": 4.0, "original_context": 32, "attention_factor": 1.3},
    ],
)
def test_stretched_positions_come_back(scaling: dict) -> None:
    model = model_of("llama", rope_scaling=scaling)
    settings, _ = there_and_back(model)
    assert settings["rope_scaling"] == pytest.approx(scaling | settings["rope_scaling"])
    assert ARCHITECTURES["llama"].why_not(model.config, state_tensors(model)) == ""


LONGROPE = {
    "kind": "longrope", "factor": 2.0, "original_context": 256,
    "short_factor": (1.0, 1.0, 1.5, 1.5, 1.5, 2.0, 2.0, 2.0), "long_factor": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
}  # fmt: skip


def test_longrope_comes_back_for_texts_of_the_original_context() -> None:
    model = model_of("phi3", context=512, rope_scaling=LONGROPE)
    architecture = ARCHITECTURES["phi3"]
    assert architecture.why_not(model.config, state_tensors(model)) == ""
    assert architecture.metadata(model.config)["phi3.context_length"] == 256
    settings, _ = there_and_back(model)
    assert settings["rope_scaling"].pop("attention_factor") == pytest.approx(1.0607, abs=1e-4)  # sqrt(1 + 1 / 8)
    assert settings["rope_scaling"] == {key: value for key, value in LONGROPE.items() if key != "factor"}


def test_divisors_are_those_of_the_model() -> None:
    config = ModelConfig(family="llama", **SIZES, rope_scaling={"kind": "llama3", "factor": 8, "original_context": 512})
    plain = ModelConfig(family="llama", **SIZES)
    divisors = divisors_of(config.rope_scaling, config.rope_theta, config.rotary_dim)
    frequencies, _ = rope_frequencies(config, config.rope_theta, 64)
    torch.testing.assert_close(rope_frequencies(plain, plain.rope_theta, 64)[0] / divisors, frequencies)
    assert len(set(divisors.tolist())) > 2


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("llama", {"rope_scaling": {"kind": "dynamic", "factor": 2}}, "dynamic"),
        ("llama", {"rope_scaling": {"kind": "yarn", "factor": 2, "beta_fast": 16}}, "beta_fast"),
        ("qwen3", {"rope_scaling": {"kind": "llama3", "factor": 8, "original_context": 32}}, "rope_scaling"),
        ("phi3", {"context": 64, "rope_scaling": {**LONGROPE, "original_context": 24}}, "multiples of 256"),
        ("llama", {"context": 512, "rope_scaling": LONGROPE}, "rope_scaling = longrope"),
        ("smollm3", {"unrotated_layers": (0,)}, "unrotated_layers"),
        ("gemma3", {"attention_scale": 0.1}, "attention_scale"),
        ("gemma3", {"window": 8, "window_layers": (0, 3)}, "window_layers"),
        ("gemma2", {"attention_cap": 0}, "attention_cap"),
        ("gemma2", {"tied": False}, "lm_head"),
        ("gemma2", {"window": 8, "window_layers": (0, 1)}, "window_layers"),
        ("olmo3", {"window": 8, "rope_theta": 1e4, "local_rope_theta": 1e3}, "local_rope_theta"),
        ("gpt_neox", {"attention_bias": False, "output_bias": False}, "attn_qkv.bias"),
        ("olmo2", {"attention_bias": True, "output_bias": True}, "k_proj.bias"),
    ],
)
def test_what_llama_cpp_cannot_have_is_told(family: str, settings: dict, reason: str) -> None:
    model = model_of(family, **settings)
    assert reason in ARCHITECTURES[family].why_not(model.config, state_tensors(model))


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("residual", ["serial", "parallel_one_norm"])
def test_a_tensor_decides_whether_stablelm_is_parallel_as_in_llama_cpp(residual: str, key: bool) -> None:
    model = model_of("stablelm", residual=residual)  # other converters write the key as true for serial models too
    written = dict(ARCHITECTURES["stablelm"].tensors_to_gguf(model.config, state_tensors(model)))
    metadata = {**ARCHITECTURES["stablelm"].metadata(model.config), "stablelm.use_parallel_residual": key}
    assert architecture_of_gguf("stablelm").settings(metadata, written)["residual"] == residual


def test_granite_without_positions_comes_back_as_granite_4() -> None:
    model = model_of("granitemoehybrid", unrotated_layers=(0, 1, 2, 3))
    assert ARCHITECTURES["granitemoehybrid"].why_not(model.config, state_tensors(model)) == ""
    metadata = ARCHITECTURES["granitemoehybrid"].metadata(model.config)
    settings = architecture_of_gguf("granite").settings(metadata, {"output.weight": torch.zeros(1)})
    assert settings["family"] == "granitemoehybrid"
    assert settings["unrotated_layers"] == (0, 1, 2, 3)


def test_olmo_with_windows_comes_back_as_olmo_3() -> None:
    model = model_of("olmo3", window=8)
    metadata = ARCHITECTURES["olmo3"].metadata(model.config)
    settings = architecture_of_gguf("olmo2").settings(metadata, {"output.weight": torch.zeros(1)})
    assert (settings["family"], settings["window_layers"]) == ("olmo3", (0, 1, 2))
    del metadata["olmo2.attention.sliding_window"]
    assert architecture_of_gguf("olmo2").settings(metadata, {})["family"] == "olmo2"


def test_without_windows_the_context_is_one_window() -> None:
    model = model_of("mistral", window=16)
    architecture = ARCHITECTURES["mistral"]
    assert architecture.why_not(model.config, state_tensors(model)) == ""
    assert architecture.metadata(model.config)["llama.context_length"] == 16


def test_a_tied_output_is_written_where_llama_cpp_wants_one() -> None:
    model = model_of("olmo2", tied=True)
    written = dict(ARCHITECTURES["olmo2"].tensors_to_gguf(model.config, state_tensors(model)))
    assert torch.equal(written["output.weight"], written["token_embd.weight"])


def test_one_name_one_family() -> None:
    assert architecture_of_gguf("llama").family == "llama"
    assert architecture_of_gguf("gpt2").family == "gpt2"
    with pytest.raises(TinyslmError, match="quen3"):
        architecture_of_gguf("quen3")


def test_tensors_without_a_place_are_refused() -> None:
    model = model_of("llama")
    tensors = {"blk.0.ffn_gate_exps.weight": torch.zeros(1)}
    with pytest.raises(TinyslmError, match="ffn_gate_exps"):
        list(ARCHITECTURES["llama"].tensors_from_gguf(model.config, tensors, {}))
