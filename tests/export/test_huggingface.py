"""Model folders as transformers reads them."""

import json

import pytest
import torch
from own_runtime import write_small_model
from safetensors import safe_open

from tinyslm.export.exporting import export_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.mark.parametrize(
    ("scheme", "dtype"), [("f32", torch.float32), ("bf16", torch.bfloat16), ("f16", torch.float16)]
)
def test_transformers_does_the_same(model_folder, tmp_path, scheme, dtype):
    made = export_model(model_folder, f"hf:{scheme}", tmp_path)[0]
    assert made.verdict == "ok", made
    found = made.findings
    assert (found.strings_equal, found.chats_equal, found.chats) == (500, 3, 3)
    assert found.ends_equal >= found.ends / 2 > 0
    with safe_open(made.path / "model.safetensors", framework="pt") as file:
        assert file.get_tensor("model.norm.weight").dtype == dtype


def test_a_template_that_was_changed_fails(model_folder, tmp_path, monkeypatch):
    from tinyslm.export import huggingface

    real = huggingface.HF.write

    def tampered(original, scheme, path, options):
        written = real(original, scheme, path, options)
        (path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
        return written

    fail_with(monkeypatch, tampered)
    assert "3 of 3 conversations have other ids" in export_model(model_folder, "hf", tmp_path)[0].verdict


def test_a_lost_stop_token_fails(model_folder, tmp_path, monkeypatch):
    from tinyslm.export import huggingface

    real = huggingface.HF.write

    def tampered(original, scheme, path, options):
        written = real(original, scheme, path, options)
        for name in ("generation_config.json", "config.json"):
            content = json.loads((path / name).read_text())
            (path / name).write_text(json.dumps({**content, "eos_token_id": original.tokenizer.pad_id}))
        return written

    fail_with(monkeypatch, tampered)
    made = export_model(model_folder, "hf", tmp_path)[0]
    assert "do not end where they should" in made.verdict
    assert made.path.name == "small-hf-f32.failed"


def fail_with(monkeypatch, write):
    import dataclasses

    from tinyslm.export import huggingface

    monkeypatch.setattr(huggingface, "HF", dataclasses.replace(huggingface.HF, write=write))
