"""Models from GGUF files: what llama.cpp computes is what the model folder computes; anything odd is refused."""

import json
import random
from contextlib import closing
from pathlib import Path

import gguf_files
import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import greedy
from tinyslm.evaluation.runtimes.llama_cpp import LlamaCpp
from tinyslm.export.checks import agreement
from tinyslm.export.format import Options, Original
from tinyslm.export.gguf import GGUF
from tinyslm.export.gguf.architectures import ARCHITECTURES
from tinyslm.export.gguf.importing import _one_for_all, import_gguf
from tinyslm.export.gguf.rope_scaling import TENSOR as ROPE_DIVISORS
from tinyslm.export.probes import strings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model, state_tensors
from tinyslm.tokenizer.training import train_tokenizer

NEW_TOKENS = 8


@pytest.fixture(scope="module")
def original(smollm2: Path) -> Original:
    return Original(smollm2, load_model(smollm2), load_tokenizer(smollm2))


def test_ids_of_the_real_model_are_those_of_llama_cpp(smollm2_gguf: Path, original: Original) -> None:
    """On 2,000 strings: scripts, emoji, code, runs of white space, control characters."""
    texts = strings(2000)
    with closing(LlamaCpp(smollm2_gguf, context=64, vocab_size=49152, has_template=True)) as theirs:
        different = [text for text in texts if theirs.encode(text) != original.tokenizer.encode(text)]
    assert different == []


def test_greedy_text_of_the_real_model_is_that_of_llama_cpp(original: Original, tmp_path: Path) -> None:
    """On 10 prompts, the imported weights written as F32 for llama.cpp. A tie (1e-3) counts as equal."""
    written = GGUF.write(original, "f32", tmp_path / "smollm2-F32.gguf", Options())
    prompts = [text for text in strings(30) if text.strip()][:10]
    stop_ids = set(original.tokenizer.stop_ids)
    found = []
    with GGUF.open(written.path, original.source, 1) as runtime, torch.inference_mode():
        for prompt in prompts:
            ids = original.tokenizer.encode(prompt)
            tokens = greedy(runtime, ids, NEW_TOKENS)
            logits_tv = original.model(torch.tensor([[*ids, *tokens]]))[0, len(ids) - 1 :]
            found.append(agreement(tokens, logits_tv.log_softmax(-1).numpy(), stop_ids, NEW_TOKENS))
    assert [prompt for prompt, same in zip(prompts, found, strict=True) if not same.equal] == []
    assert sum(same.tie for same in found) <= 1


def test_the_real_model_is_described(smollm2: Path) -> None:
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["model_type"], config["dtype"], config["rope_theta"]) == ("llama", "float32", 100_000.0)
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["rms_norm_eps"]) == (9, 3, 1e-5)
    assert config["tie_word_embeddings"] is True
    tokenizer = load_tokenizer(smollm2)
    assert {"<|im_start|>": 1, "<|im_end|>": 2}.items() <= tokenizer.special_ids.items()
    assert (tokenizer.eos_id, tokenizer.stop_ids, tokenizer.start_ids) == (2, (0, 2), ())
    assert "SmolLM, trained by Hugging Face" in (tokenizer.chat_template or "")
    card = json.loads((smollm2 / "tinyslm.json").read_text())["training"]["imported_from"]
    assert card["formats"] == {"Q4_1": 210, "Q8_0": 1, "F32": 61}
    assert len(card["sha256"]) == 64
    assert card["licence"] == "apache-2.0"


def small_model(family: str, **settings) -> Decoder:
    torch.manual_seed(5)
    shape = {"vocab_size": 320, "dim": 64, "heads": 4, "depth": 2, "context": 48, "ffn_dim": 96, **settings}
    model = Decoder(ModelConfig(family=family, **shape))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.25)
    return model.eval()


@pytest.fixture(scope="module")
def byte_tokenizer():
    return train_tokenizer([], kind="byte")


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_what_is_written_as_gguf_comes_back(family: str, tmp_path: Path, byte_tokenizer) -> None:
    """Through llama.cpp's names and row orders and back: the same weights, bit for bit but for norms with 1 + w."""
    model = small_model(family)
    save_model(model, tmp_path / "model", byte_tokenizer)
    original = Original(tmp_path / "model", load_model(tmp_path / "model"), byte_tokenizer)
    assert GGUF.supports(original.model) == ""
    written = GGUF.write(original, "f32", tmp_path / "model.gguf", Options())
    imported = import_gguf(written.path, tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert imported.dtype == "fp32"
    ids = torch.arange(40)[None]
    with torch.no_grad():
        # llama.cpp has one GELU, the tanh form; the corrected article's model has the exact one.
        near = 1e-3 if model.config.feed_forward == "gelu" else 1e-5
        torch.testing.assert_close(again(ids), model(ids), atol=near, rtol=near)
    ours, theirs = state_tensors(model), state_tensors(again)
    shared = [name for name in ours if name in theirs and "norm" not in name]
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    assert load_tokenizer(tmp_path / "again").encode("naïve") == byte_tokenizer.encode("naïve")


@pytest.mark.parametrize(
    ("pattern", "period"), [([1, 1, 1, 0, 1], 4), ([1, 0, 1, 0], 2), ([1, 0, 0], None), ([0, 1], None), ([1, 1], True)]
)
def test_windows_that_are_given_block_by_block_are_read_as_a_period(pattern: list[int], period: int | None) -> None:
    values = np.array(pattern, bool)
    found = _one_for_all("attention.sliding_window_pattern", values)
    assert found is values if period is None else found == period


@pytest.mark.parametrize(("scheme", "dtype"), [("bf16", "bf16"), ("f16", "fp16"), ("q8_0", "fp32")])
def test_the_number_format_changes_no_value(tmp_path: Path, byte_tokenizer, scheme: str, dtype: str) -> None:
    model = small_model("llama").to(torch.bfloat16)  # every value is one of bf16
    if scheme == "f16":
        model = model.half()
    original = Original(tmp_path, model.float(), byte_tokenizer)
    written = GGUF.write(original, scheme, tmp_path / "model.gguf", Options())
    imported = import_gguf(written.path, tmp_path / "auto")
    assert imported.dtype == dtype
    import_gguf(written.path, tmp_path / "exact", dtype="fp32")
    exact, auto = (state_tensors(load_model(tmp_path / name)) for name in ("exact", "auto"))
    assert all(torch.equal(exact[name], auto[name]) for name in exact)


def test_norms_that_a_half_cannot_hold_keep_all_in_fp32(tmp_path: Path) -> None:
    def halves(tensors):
        for name, values in tensors.items():
            tensors[name] = values.astype(np.float16) if values.ndim > 1 else values

    path = gguf_files.write_tiny_llama(tmp_path / "x.gguf", tensors=halves)
    assert import_gguf(path, tmp_path / "model").dtype == "fp32"
    assert import_gguf(path, tmp_path / "half", dtype="fp16").dtype == "fp16"


def test_the_window_of_a_llama_file_is_kept(tmp_path: Path) -> None:
    path = gguf_files.write_tiny_llama(
        tmp_path / "x.gguf", lambda writer: writer.add_uint32("llama.attention.sliding_window", 8)
    )
    config = import_gguf(path, tmp_path / "model").config
    assert (config.family, config.window, config.window_layers) == ("mistral", 8, (0,))
    assert load_model(tmp_path / "model").config == config


def test_values_given_block_by_block_are_read_where_they_are_the_same(tmp_path: Path) -> None:
    def by_block(writer):
        writer.kv_data[0].pop("llama.attention.head_count_kv")
        writer.add_array("llama.attention.head_count_kv", [1])

    path = gguf_files.write_tiny_llama(tmp_path / "x.gguf", by_block)
    assert import_gguf(path, tmp_path / "model").config.kv_heads == 1


def key(name, kind, value):
    return lambda writer: getattr(writer, f"add_{kind}")(name, value)


def changed(name, value):
    def change(writer):
        writer.kv_data[0][name].value = value

    return change


def without(name):
    return lambda writer: writer.kv_data[0].pop(name)


def reshaped(name, shape):
    return lambda tensors: tensors.update({name: np.zeros(shape, np.float32)})


NOTHING = lambda _: None  # noqa: E731
REFUSED = {
    "architecture": (changed("general.architecture", "mamba"), NOTHING, "architecture .mamba., which is not supported"),
    "no architecture": (without("general.architecture"), NOTHING, r"does not say general\.architecture"),
    "a part": (key("split.count", "uint16", 3), NOTHING, "one of 3 parts"),
    "an adapter": (key("general.type", "string", "adapter"), NOTHING, "not a model but of the type adapter"),
    "unknown setting": (key("llama.magic", "uint32", 7), NOTHING, r"the setting llama\.magic = 7"),
    "experts": (key("llama.expert_count", "uint32", 8), NOTHING, r"llama\.expert_count = 8"),
    "a soft cap": (key("llama.attn_logit_softcapping", "float32", 50.0), NOTHING, "attn_logit_softcapping = 50"),
    "not causal": (key("llama.attention.causal", "bool", False), NOTHING, "attention.causal = False"),
    "some experts": (key("llama.expert_count", "array", [0, 0, 2]), NOTHING, r"llama\.expert_count = \[0, 0, 2\]"),
    "clamps": (key("llama.attention.clamp_kqv", "array", [0.0, 1.0]), NOTHING, r"clamp_kqv = \[0\.0, 1\.0\]"),
    "scaling": (key("llama.rope.scaling.type", "string", "longrope"), NOTHING, "longrope"),
    "depth missing": (without("llama.block_count"), NOTHING, r"does not say llama\.block_count"),
    "2**32 blocks": (changed("llama.block_count", 4_294_967_295), NOTHING, "block_count = 4294967295"),
    "2,000 blocks": (changed("llama.block_count", 2000), NOTHING, "2,000 blocks in 11 tensors"),
    "no heads": (changed("llama.attention.head_count", 0), NOTHING, "head_count = 0"),
    "huge width": (changed("llama.feed_forward_length", 1 << 30), NOTHING, "ffn_dim = 1,073,741,824, but no tensor"),
    "text for a number": (
        lambda writer: (without("llama.block_count")(writer), writer.add_string("llama.block_count", "1")),
        NOTHING,
        "block_count = 1",
    ),
    "different blocks": (
        lambda writer: (
            without("llama.feed_forward_length")(writer),
            writer.add_array("llama.feed_forward_length", [64, 32]),
        ),
        NOTHING,
        r"feed_forward_length = \[64, 32\]",
    ),
    "key width": (key("llama.attention.key_length", "uint32", 8), NOTHING, "another width than keys"),
    "tensor missing": (NOTHING, lambda tensors: tensors.pop("blk.0.ffn_up.weight"), "no weights for .*up_proj"),
    "tensor left over": (NOTHING, reshaped("blk.0.attn_sinks.weight", (2,)), "tensor 'blk.0.attn_sinks.weight'"),
    "bias of one block": (NOTHING, reshaped("blk.1.attn_q.bias", (32,)), "blk.1.attn_q.bias"),
    "tensor too narrow": (NOTHING, reshaped("blk.0.attn_q.weight", (32, 16)), r"q_proj.weight in the shape \[32, 16\]"),
    "tensor too short": (NOTHING, reshaped("blk.0.ffn_down.weight", (16, 64)), "16 rows instead of 32"),
    "few embeddings": (NOTHING, reshaped("token_embd.weight", (200, 32)), "320 tokens for 200 rows"),
    "odd divisors": (NOTHING, lambda tensors: tensors.update({ROPE_DIVISORS: np.full(4, 8, np.float32)}), "4 divisors"),
    "divisors by rule of nobody": (
        NOTHING,
        lambda tensors: tensors.update({ROPE_DIVISORS: np.array([1, 9, 2, 8, 3, 7, 4, 6], np.float32)}),
        "do not follow Llama 3's rule",
    ),
}


@pytest.mark.parametrize(("change", "tensors", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, change, tensors, told: str) -> None:
    path = gguf_files.write_tiny_llama(tmp_path / "x.gguf", change, tensors=tensors)
    with pytest.raises(TinyslmError, match=told):
        import_gguf(path, tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.gguf"]


def test_a_value_that_does_not_fit_the_number_format_is_told(tmp_path: Path) -> None:
    def enlarge(tensors):
        tensors["output_norm.weight"][0] = 1e6

    path = gguf_files.write_tiny_llama(tmp_path / "x.gguf", tensors=enlarge)
    with pytest.raises(TinyslmError, match=r"value of model\.norm\.weight does not fit"):
        import_gguf(path, tmp_path / "model", dtype="fp16")
    with pytest.raises(TinyslmError, match='Unknown number format "int3"'):
        import_gguf(path, tmp_path / "model", dtype="int3")


def test_an_output_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(TinyslmError, match="exists already"):
        import_gguf(tmp_path / "whatever.gguf", tmp_path / "model")


def test_mutations_of_a_whole_model_are_imported_or_refused(tmp_path: Path) -> None:
    """100 of them, through everything that an import does."""
    path = gguf_files.write_tiny_llama(tmp_path / "x.gguf")
    content = path.read_bytes()
    chance = random.Random(11)
    refused = 0
    for number in range(100):
        path.write_bytes(gguf_files.mutated(content, 9000, chance))
        try:
            import_gguf(path, tmp_path / str(number))
        except TinyslmError:
            refused += 1
    assert refused > 30


def test_what_was_imported_runs_in_llama_cpp_as_before(tmp_path: Path, byte_tokenizer) -> None:
    """The file that was imported, not one of our writing back, gives the same greedy tokens."""
    path = gguf_files.write_tiny_llama(tmp_path / "x.gguf")
    import_gguf(path, tmp_path / "model")
    original = Original(tmp_path / "model", load_model(tmp_path / "model"), load_tokenizer(tmp_path / "model"))
    ids = [1, *original.tokenizer.encode("the bath")]
    with GGUF.open(path, original.source, 1) as runtime:
        tokens = greedy(runtime, ids, 12)
    logits_tv = original.model(torch.tensor([[*ids, *tokens]]))[0, len(ids) - 1 :]
    same = agreement(tokens, logits_tv.log_softmax(-1).detach().numpy(), set(original.tokenizer.stop_ids), 12)
    assert same.equal, same.other
