"""The model card: what the files say, and nothing else."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard as HubCard
from own_runtime import write_small_model

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_file
from tinyslm.export.exporting import export_model
from tinyslm.export.licences import licence_fields
from tinyslm.export.model_card import model_card
from tinyslm.model.folder import origin_of, write_card

SCORED = {
    "bits_per_byte": 2.5, "low": 2.25, "high": 2.75, "training_tokens": 4096, "training_seconds": 75.0, "step": 8,
}  # fmt: skip
SCORE = {
    "task": "arithmetic", "metric": "score", "value": 0.25, "low": 0.125, "high": 0.5, "items": 40, "chance": 0.0,
    "above_chance": True, "overlap": {"found": 1, "checked": 20},
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder in a run folder, of which nothing else is recorded."""
    return write_small_model(tmp_path / "first" / "model")


def add_run(model: Path) -> Path:
    """What a run writes beside its model."""
    run, manifest = model.parent, model.parent / "data" / "manifest.json"
    manifest.parent.mkdir()
    source = {"path": "/home/ann/secret/texts.jsonl", "for": "train", "kept_documents": 30, "kept_bytes": 26000}
    manifest.write_text(json.dumps({"sources": [source], "splits": {"train": {"documents": 29, "tokens": 8109}}}))
    (run / "data.json").write_text(json.dumps({"folder": "data", "manifest_sha256": sha256_file(manifest)}))
    (run / "config.json").write_text(json.dumps({"train": {"stage": "sft", "seed": 3}, "lora": {"rank": 16}}))
    (run / "result.json").write_text("{}")
    write_card(model, SCORED)
    return run


def test_what_is_unknown_is_named_or_left_out(model: Path) -> None:
    text = model_card(model).render()
    assert "# first\n" in text
    assert "What it was trained on is not recorded with this model." in text
    assert "No scores on tasks are recorded." in text
    assert "| licence | not stated |" in text
    assert "## Training" not in text
    assert "## Scores on held-out data" not in text
    fields = HubCard(text).data.to_dict()
    assert fields["pipeline_tag"] == "text-generation"
    assert not {"license", "language", "base_model", "model-index", "datasets"} & fields.keys()


def test_what_a_run_recorded(model: Path) -> None:
    run = add_run(model)
    text = model_card(run).render()
    assert text == model_card(model).render()
    for row in (
        "| bits per byte | 2.5000 |",
        "| 95 % interval | 2.2500 to 2.7500 |",
        "| time | 1:15 |",
        "| method | supervised fine-tuning on conversations |",
        "| adapters | rank 16, merged into the weights |",
        "| seed | 3 |",
        "| texts.jsonl | 30 documents, 26 kB (learned from) |",
        "| training | 29 documents, 8,109 tokens |",
    ):
        assert row in text
    assert "secret" not in text
    (run / "data" / "manifest.json").write_text("{}")  # the data was made anew
    assert "What it was trained on is not recorded" in model_card(run).render()


def test_what_training_changed_is_told_to_readers_not_to_the_trainer(model: Path) -> None:
    gain = {"unit": "score", "before": 0.25, "after": 0.75, "low": 0.375, "high": 0.625, "examples": 1200}
    general = {"change": 0.0861, "low": 0.034, "high": 0.153, "effect": "worse"}
    verdict = {"gain": gain, "general": general, "words": "general text 8.6 % worse: try --replay 0.1"}
    write_card(model, {"loss": 2.25, "verdict": verdict})
    text = model_card(model, limits=["It is rounded."]).render()
    for line in (
        "| score of its answers | 0.7500, before training 0.2500; change +0.3750 to +0.6250, 1,200 held-out examples |",
        "| general text | 8.6 % more bits per byte than before training (+3.4 % to +15.3 %) |",
        "- How well it does anything that it was not taught was not measured.",
        "- It is rounded.",
    ):
        assert f"{line}\n" in text
    assert "--replay" not in text
    loss = {**gain, "unit": "nats per token", "before": 2.5, "low": -0.375, "high": -0.125}
    write_card(model, {"loss": 2.25, "verdict": {"gain": loss, "general": {**general, "effect": "noise"}}})
    text = model_card(model).render()
    assert "| before training | 2.5000 nats per token; change -0.3750 to -0.1250, 1,200 held-out examples |" in text
    assert "(+3.4 % to +15.3 %); within the noise |" in text
    assert "How well it does any task was not measured." in text
    write_card(model, {"verdict": {"gain": None, "words": "nothing"}})
    assert "## Scores on held-out data" not in model_card(model).render()


def test_scores_have_intervals_and_go_into_the_index_of_the_hub(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"model": "first", "scores": [SCORE, {**SCORE, "task": "x|y", "above_chance": False}]}))
    card = model_card(model, scores=[file])
    text = card.render()
    assert "score 0.2500 (95 % interval 0.1250 to 0.5000), chance 0.0000, 40 items, 1 of 20 items occur in" in text
    assert "x\\|y" in text
    assert "Not measurably better than guessing on: x\\|y." in text
    first, _ = HubCard(text).data.eval_results
    assert (first.dataset_name, first.metric_type, first.metric_value) == ("arithmetic", "score", 0.25)
    with pytest.raises(TinyslmError, match="scores"):
        model_card(model, scores=[model / "config.json"])


def test_where_it_comes_from(model: Path, tmp_path: Path) -> None:
    source = {"repository": "owner/base", "revision": "c0ffee" * 6, "licence": "apache-2.0"}
    write_card(model, {"pulled_from": source})
    fields = model_card(model).metadata
    assert (fields["base_model"], fields["license"]) == ("owner/base", "apache-2.0")
    assert "base_model_relation" not in fields
    (model / "quantization.json").write_text(json.dumps({"scheme": "int4", "rows": []}))
    assert model_card(model).metadata["base_model_relation"] == "quantized"

    taught = write_small_model(tmp_path / "taught")
    write_card(taught, {**SCORED, "base": origin_of(model)})
    card = model_card(taught)
    assert (card.metadata["base_model"], card.metadata["base_model_relation"]) == ("owner/base", "finetune")
    assert "| trained from | first (pulled from owner/base at c0ffeec0ffee) |" in card.render()
    assert "| licence | apache-2.0 |" in card.render()
    assert origin_of(taught)["pulled_from"] == source  # a third generation knows it too


def test_quantized_scores_are_not_mistaken_for_the_originals(model: Path) -> None:
    write_card(model, SCORED)
    report = {"rows": [{"bits_per_byte": 2.5}, {"bits_per_byte": 2.75}]}
    (model / "quantization.json").write_text(json.dumps(report))
    assert (
        "after quantization | 2.7500 bits per byte of held-out text, before it 2.5000 |" in model_card(model).render()
    )
    (model / "quantization.json").write_text(json.dumps({"rows": [{"bits_per_byte": None}]}))
    assert "not measured; any scores above are of the model before it" in model_card(model).render()


def test_licences(model: Path) -> None:
    assert licence_fields("Apache-2.0") == licence_fields("Apache License, Version 2.0") == {"license": "apache-2.0"}
    assert licence_fields("Ours alone") == {"license": "other", "license_name": "Ours alone"}
    assert model_card(model, licence="MIT").metadata["license"] == "mit"
    (model / "LICENSE").write_text("\nMIT License\n\nCopyright")
    assert model_card(model).metadata["license"] == "mit"
    (model / "README.md").write_text("---\nlicense: gemma\nlanguage: de\n---\n# Theirs\n")
    fields = model_card(model).metadata
    assert (fields["license"], fields["language"]) == ("gemma", "de")
    with pytest.raises(TinyslmError, match='no licence "apache"'):
        model_card(model, licence="apache")


def test_titles_are_text(model: Path) -> None:
    text = model_card(model, title="<b>A</b> [link](x)\n# no").render()
    assert "# \\<b\\>A\\</b\\> \\[link\\](x) \\# no\n" in text


def test_the_export_to_hugging_face_has_it(model: Path, tmp_path: Path) -> None:
    (made,) = export_model(model, "hf:f32", tmp_path / "out", verify=False)
    assert (made.path / "README.md").read_text() == model_card(model).render()
