"""GGUF files say all that llama.cpp has to know, and are whole or not there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf_models import TEXT, export, random_model, tokenizer_of

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf import GGUF
from tinyslm.export.gguf.writer import Placed, write_container


def fields(path: Path) -> dict:
    return {name: field.contents() for name, field in GGUFReader(path).fields.items() if not name.startswith("GGUF.")}


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


def test_metadata_is_complete(tmp_path) -> None:
    tokenizer = tokenizer_of("bpe")
    written, _ = export(random_model("qwen3", tokenizer.vocab_size), tokenizer, "q8_0", tmp_path)
    found = fields(written.path)
    expected = {
        "general.architecture": "qwen3",
        "general.type": "model",
        "general.name": "model",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "qwen3.block_count": 4,
        "qwen3.context_length": 96,
        "qwen3.embedding_length": 64,
        "qwen3.feed_forward_length": 128,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.key_length": 16,
        "qwen3.attention.value_length": 16,
        "qwen3.rope.dimension_count": 16,
        "qwen3.rope.freq_base": 10000.0,
        "qwen3.vocab_size": 4096,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.eos_token_id": tokenizer.eos_id,
        "tokenizer.ggml.eot_token_id": tokenizer.special_ids["<|im_end|>"],
        "tokenizer.ggml.padding_token_id": tokenizer.pad_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": tokenizer.chat_template,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert len(found["tokenizer.ggml.tokens"]) == len(found["tokenizer.ggml.token_type"]) == 4096
    assert len(found["tokenizer.ggml.merges"]) == 4096 - 256 - len(tokenizer.special_ids)
    assert written.notes == []


def test_what_cannot_have_the_scheme_is_told_tensor_by_tensor(tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("llama", tokenizer.vocab_size, dim=72, heads=4, head_dim=18, kv_heads=4, ffn_dim=256)
    written, _ = export(model, tokenizer, "q4_k_m", tmp_path)
    found = types(written.path)
    assert found["blk.1.ffn_down.weight"] == "Q4_K"
    assert found["blk.3.ffn_down.weight"] == "Q6_K"
    assert found["blk.0.attn_q.weight"] == found["token_embd.weight"] == "F16"
    assert found["blk.0.attn_norm.weight"] == "F32"
    told = "\n".join(written.notes)
    assert "blk.0-3.attn_q.weight" in told
    assert "token_embd.weight" in told
    assert "F16 instead of Q4_K, because its rows of 72 are not a multiple of 256" in told
    assert "ffn_down" not in told


def test_blocks_of_32_where_256_do_not_fit(tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    written, _ = export(random_model("llama", tokenizer.vocab_size), tokenizer, "q4_k_m", tmp_path)
    found = types(written.path)
    assert found["blk.0.attn_q.weight"] == "Q5_0"
    assert found["blk.3.attn_v.weight"] == found["output.weight"] == "Q8_0"
    assert all("multiple of 256" in note for note in written.notes)


def test_numbers_too_large_for_half_precision_are_kept(tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("llama", tokenizer.vocab_size)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] = 70000.0
    written, _ = export(model, tokenizer, "f16", tmp_path)
    assert types(written.path)["blk.2.ffn_up.weight"] == "F32"
    assert [note.split(":")[0] for note in written.notes] == ["blk.2.ffn_up.weight"]
    assert "7e+04" in written.notes[0]


def test_weights_that_are_no_numbers_are_refused(tmp_path) -> None:
    model = random_model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(TinyslmError, match="output_norm"):
        export(model, tokenizer_of("byte"), "f32", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_shorter_context_is_told(tmp_path) -> None:
    written, _ = export(random_model("mistral", window=32), tokenizer_of("byte"), "f32", tmp_path)
    assert any("32 instead of 96" in note for note in written.notes)


def test_what_llama_cpp_does_not_have_is_refused(tmp_path) -> None:
    model = random_model("llama", rope_scaling={"kind": "dynamic", "factor": 2.0})
    assert "dynamic" in GGUF.supports(model)
    with pytest.raises(TinyslmError, match="dynamic"):
        export(model, tokenizer_of("byte"), "f32", tmp_path)


def test_calibration_changes_what_is_rounded(tmp_path) -> None:
    tokenizer = tokenizer_of("byte")
    model = random_model("llama", tokenizer.vocab_size, dim=256, ffn_dim=256, depth=1)
    plain, _ = export(model, tokenizer, "q4_k_m", tmp_path)
    content = plain.path.read_bytes()
    plain.path.unlink()
    weighed, _ = export(model, tokenizer, "q4_k_m", tmp_path, texts=[TEXT])
    assert len(weighed.path.read_bytes()) == len(content)
    assert weighed.path.read_bytes() != content


def test_a_failure_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinyslm.export.gguf.writer.os.fsync", full)
    with pytest.raises(TinyslmError, match="No space left"):
        export(random_model(), tokenizer_of("byte"), "f32", tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_kind_of_value_reads_back(tmp_path) -> None:
    keys = {
        "general.architecture": "llama",
        "a.text": "Ünï\n",
        "a.truth": True,
        "a.number": 4_000_000_000,
        "a.share": 0.5,
        "texts": ["a", "", "漢字"],
        "numbers": [-1, 2],
        "shares": [-1.5, 0.0],
        "nothing": [],
    }
    tensors = [Placed("one", (3, 5), "F32", "F32"), Placed("two", (4,), "F32", "F32")]
    values = [np.arange(15, dtype=np.float32), np.ones(4, np.float32)]
    write_container(tmp_path / "file.gguf", keys, tensors, (value.view(np.uint8) for value in values))
    reader = GGUFReader(tmp_path / "file.gguf")
    assert {name: reader.fields[name].contents() for name in keys} == keys
    assert np.array_equal(reader.tensors[0].data, values[0].reshape(3, 5))
    assert np.array_equal(reader.tensors[1].data, values[1])
