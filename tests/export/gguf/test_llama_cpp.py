"""Exports compute in llama.cpp what the model computes: every family, every scheme, every kind of tokenizer."""

from functools import cache

import numpy as np
import pytest
import torch
from gguf_models import TEXT, export, random_model, tokenizer_of
from own_runtime import OwnRuntime

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import greedy
from tinyslm.export.checks import agreement, divergence
from tinyslm.export.format import Options, Original
from tinyslm.export.gguf import GGUF
from tinyslm.export.gguf.architectures import ARCHITECTURES
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import load_model, load_tokenizer

STRINGS = [
    "",
    "a",
    " ",
    "  two  spaces   three\t\ttabs\n\n\nlines \r\n end ",
    "It's WE'LL 'Tis 12345678 x1y22 3.14 naïve Straße пример 漢字かな 한국어 العربية हिन्दी",
    "👩‍👩‍👧 🇩🇪 \u200b\u00a0\u3000 \x00\x01 !!?? -> {}[]() def f(x):\n\treturn x\n",
    "<|endoftext|><|im_start|>user\n<|im_end|> </s> <s> [INST] <0x0A> ▁x",
]


def logprobs(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]))[0].log_softmax(-1).numpy()


def compare(model, tokenizer, scheme, folder, texts=()):
    """Mean KL and the largest difference of log-probabilities; ids, greedy tokens and conversations are equal."""
    written, original = export(model, tokenizer, scheme, folder, texts)
    room = ARCHITECTURES[model.config.family].context(model.config) - 1  # llama.cpp's server leaves one place free
    ids = tokenizer.encode(TEXT)[:room]
    expected_tv = logprobs(model, ids)
    with GGUF.open(written.path, original.source, 1) as runtime:
        assert [runtime.encode(text) for text in STRINGS] == [tokenizer.encode(text) for text in STRINGS]
        talk = [{"role": "user", "content": "Hello"}]
        assert runtime.encode_chat(talk) == OwnRuntime(model, tokenizer).encode_chat(talk)
        places = [0, 1, len(ids) // 3, len(ids) - 1]
        found_tv = runtime.logprobs(ids, places)
        tokens = greedy(runtime, ids[:8], 16)
    np.testing.assert_allclose(np.exp(found_tv).sum(-1), 1, atol=1e-5)
    if GGUF.schemes[scheme].exact:
        judged = agreement(tokens, logprobs(model, ids[:8] + tokens)[7:], set(tokenizer.stop_ids), 16)
        assert judged.equal, judged.other
    return divergence(expected_tv[places], found_tv).mean(), np.abs(expected_tv[places] - found_tv).max()


SETTINGS = {
    "olmo3": {"window": 24, "depth": 4},
    "gemma2": {"window": 24, "attention_cap": 3.0, "logit_cap": 4.0, "head_dim": 32},
    "gemma3": {"window": 24, "logit_cap": 4.0, "head_dim": 32, "depth": 7},
    "granite": {"embedding_scale": 3.0, "residual_scale": 0.5, "logit_divisor": 2.0, "attention_scale": 0.1},
    "mistral": {"window": 48},
    "phi": {"rotary_share": 0.5},
    "gpt_neox": {"rotary_share": 0.25},
}


LONGROPE = {
    "kind": "longrope", "factor": 2.0, "original_context": 256, "short_factor": (1.0, 1.5, 2.0, 3.0),
    "long_factor": (2.0, 5.0, 9.0, 12.0),
}  # fmt: skip


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_every_family_computes_the_same(family: str, tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model(family, tokenizer.vocab_size, **SETTINGS.get(family, {}))
    kl, largest = compare(model, tokenizer, "f32", tmp_path)
    # llama.cpp reads GELU from a table in half precision.
    assert largest < (2e-4 if model.config.feed_forward == "swiglu" else 2e-2)
    assert kl < 1e-5


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"tied": True}),
        ("llama", {"head_dim": 32, "kv_heads": 1}),
        ("llama", {"rope_scaling": {"kind": "linear", "factor": 4.0}}),
        ("llama", {"rope_scaling": {"kind": "llama3", "factor": 8.0, "original_context": 32}}),
        ("qwen3", {"rope_scaling": {"kind": "yarn", "factor": 4.0, "original_context": 24}}),
        ("qwen2", {"rope_scaling": {"kind": "yarn", "factor": 4.0, "original_context": 24, "attention_factor": 1.4}}),
        ("qwen3", {"tied": False, "rope_theta": 500.0}),
        (
            "gemma3",
            {"window": 16, "depth": 3, "window_layers": (0, 2), "rope_scaling": {"kind": "linear", "factor": 4}},
        ),
        ("olmo3", {"window": 16, "rope_scaling": {"kind": "yarn", "factor": 4.0, "original_context": 24}}),
        ("gpt_neox", {"residual": "serial", "tied": True}),
        ("granitemoehybrid", {"unrotated_layers": (0, 1, 2, 3), "attention_scale": 0.2, "tied": True}),
        ("olmo2", {"tied": True}),
        ("stablelm", {"residual": "parallel_one_norm", "attention_bias": True, "rotary_share": 0.5}),
        ("phi3", {"rotary_share": 0.5}),
        ("phi3", {"rotary_share": 0.5, "context": 512, "rope_scaling": LONGROPE}),  # text of up to the original context
        ("phi3", {"rotary_share": 0.5, "context": 256, "rope_scaling": LONGROPE}),
        ("smollm3", {"depth": 5}),
    ],
)
def test_settings_are_computed_the_same(family: str, settings: dict, tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    kl, largest = compare(random_model(family, tokenizer.vocab_size, **settings), tokenizer, "f32", tmp_path)
    assert largest < (2e-2 if family in ("gemma3", "gpt_neox") else 2e-4)
    assert kl < 1e-5


@cache
def _kl(family: str, scheme: str, folder) -> float:
    tokenizer = tokenizer_of("byte")
    model = random_model(family, tokenizer.vocab_size, dim=256, heads=4, ffn_dim=256, depth=2, context=64)
    return compare(model, tokenizer, scheme, folder)[0]


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@pytest.mark.parametrize("scheme", list(GGUF.schemes))
def test_every_scheme_stays_close(family: str, scheme: str, tmp_path) -> None:
    bounds = {
        "f32": 1e-5,
        "f16": 1e-4,
        "bf16": 1e-3,
        "q8_0": 1e-2,
        "q6_k": 3e-2,
        "q5_k_m": 0.1,
        "q4_k_m": 0.3,
        "q4_0": 0.4,
    }
    assert _kl(family, scheme, tmp_path) < bounds[scheme] <= max(4e-1, GGUF.schemes[scheme].largest_kl)


@pytest.mark.parametrize("kind", ["char", "bpe", "large"])
def test_every_tokenizer_made_here_is_the_same_there(kind: str, tmp_path) -> None:
    tokenizer = tokenizer_of(kind)
    assert tokenizer.vocab_size == {"bpe": 4096, "large": 32768}.get(kind, tokenizer.vocab_size)
    kl, _ = compare(random_model("qwen3", tokenizer.vocab_size), tokenizer, "f32", tmp_path)
    assert kl < 1e-5


def test_ids_that_the_tokenizer_lacks_are_filled_up(tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    kl, _ = compare(random_model("llama", tokenizer.vocab_size + 64), tokenizer, "f32", tmp_path)
    assert kl < 1e-5


@pytest.mark.parametrize("end", ["<|endoftext|>", "<|im_end|>"])
def test_a_text_ends_before_an_end_token(end: str, tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("llama", tokenizer.vocab_size, tied=False)
    own, ids = OwnRuntime(model, tokenizer), tokenizer.encode("Once")
    fifth = greedy(own, ids, 16)[4]
    with torch.no_grad():
        model.lm_head.weight[tokenizer.special_ids[end]] = 2 * model.lm_head.weight[fifth]
    expected = greedy(own, ids, 16)
    assert len(expected) < 16
    written, original = export(model, tokenizer, "f32", tmp_path)
    with GGUF.open(written.path, original.source, 1) as runtime:
        assert greedy(runtime, ids, 16) == expected
        assert greedy(runtime, [*ids, *expected], 16) == []
        assert runtime.logprobs([*ids, *expected], [len(ids + expected) - 1]).argmax() == tokenizer.special_ids[end]


def test_the_server_asks_for_its_key(tmp_path) -> None:
    written, original = export(random_model(), tokenizer_of("byte"), "f32", tmp_path)
    with GGUF.open(written.path, original.source, 1) as runtime:
        runtime._headers = {"Content-Type": "application/json"}
        with pytest.raises(RuntimeError, match="401"):
            runtime.encode("a")


def test_nothing_is_said(tmp_path, capfd) -> None:
    written, original = export(random_model(), tokenizer_of("byte"), "f32", tmp_path)
    with GGUF.open(written.path, original.source, 1) as runtime:
        greedy(runtime, [1, 2], 4)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_llama_cpp_does_not_load_is_told(tmp_path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF nothing of the kind")
    _, original = export(random_model(), tokenizer_of("byte"), "f32", tmp_path)
    with pytest.raises(TinyslmError, match="does not load"), GGUF.open(file, original.source, 1):
        pass


def test_families_that_llama_cpp_does_not_have_are_named() -> None:
    unknown = set(FAMILIES) - set(ARCHITECTURES)
    assert unknown == {"gpt_neo", "opt"}
    for family in unknown:
        assert GGUF.supports(random_model(family)) == f"llama.cpp does not have the family {family}"


def test_a_real_model_in_four_bits(smollm2, tmp_path) -> None:
    original = Original(smollm2, load_model(smollm2), load_tokenizer(smollm2))
    tokenizer, path = original.tokenizer, tmp_path / "smollm2-Q4_K_M.gguf"
    written = GGUF.write(original, "q4_k_m", path, Options(calibration=[TEXT]))
    assert any("Q5_0 instead of Q4_K, because its rows of 576" in note for note in written.notes)
    assert "<|im_start|>system\nYou are a helpful AI assistant" in path.with_suffix(".Modelfile").read_text()
    ids = tokenizer.encode("The capital of France is Paris. The capital of Italy is")
    with GGUF.open(written.path, original.source, 1) as runtime:
        assert [runtime.encode(text) for text in STRINGS] == [tokenizer.encode(text) for text in STRINGS]
        talk = [{"role": "user", "content": "Hello"}]
        assert runtime.encode_chat(talk) == OwnRuntime(original.model, tokenizer).encode_chat(talk)
        assert tokenizer.decode(greedy(runtime, ids, 1)) == " Rome"
        found_v = runtime.logprobs(ids, [len(ids) - 1])[0]
    assert divergence(logprobs(original.model, ids)[-1:], found_v[None])[0] < GGUF.schemes["q4_k_m"].largest_kl
