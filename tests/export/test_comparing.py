"""Comparing models: the figures are those of `evaluate` and of the formulas, on one text for all."""

import dataclasses
import json
import math
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from own_runtime import write_small_model

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.loss import document_losses
from tinyslm.evaluation.running import centred_mean
from tinyslm.evaluation.settings import EvaluationSettings
from tinyslm.export.comparing import compare_models
from tinyslm.export.comparison_charts import draw_quality, draw_scores
from tinyslm.export.comparison_page import cells, check_unused, cost_cells, means, task_heading, write_comparison
from tinyslm.export.evaluating import evaluate_tasks
from tinyslm.export.exporting import export_model
from tinyslm.model.folder import load_model, load_tokenizer, save_model

WORDS = ["dog", "cat", "bird", "tree", "river", "stone", "cloud", "king", "queen", "ship"]
FEW = EvaluationSettings(limit=5)
TEXTS = ["It was a dark and stormy night; the rain fell in torrents. " * 20, "Été 漢字 and other words. " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def comparison(folder, tmp_path_factory):
    other = write_small_model(tmp_path_factory.mktemp("model") / "other", seed=1)
    rounded = tmp_path_factory.mktemp("model") / "rounded"
    save_model(load_model(folder).to(torch.bfloat16), rounded, load_tokenizer(folder))
    return compare_models([folder, rounded, other], TEXTS, tokens=300)


def test_the_first_is_the_measure(comparison):
    first, rounded, other = comparison.models
    assert (first.name, first.kind, first.change, first.mean_kl) == ("small", "folder", 0.0, 0.0)
    assert 0 < rounded.mean_kl < 0.01 < other.mean_kl
    assert abs(rounded.change) < 0.01
    assert other.change == pytest.approx(other.bits_per_byte / first.bits_per_byte - 1)


def test_sizes(comparison, folder):
    first, rounded, _ = comparison.models
    assert first.bytes == (folder / "model.safetensors").stat().st_size
    assert first.bits_per_weight == pytest.approx(32, rel=0.02)
    assert rounded.bits_per_weight == pytest.approx(16, rel=0.03)


def test_speeds(comparison):
    assert all(model.prefill > 0 and model.decode > 0 for model in comparison.models)


def test_bits_per_byte_are_those_of_evaluate(folder):
    text = "A short text, all of it in one passage."
    found = compare_models([folder], [text]).models[0].bits_per_byte
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    inner = " ".join(text.split(" ")[1:-1])
    ids = tokenizer.encode(inner)
    whole = document_losses(model, [(ids, len(inner))], end_id=tokenizer.eos_id).score()
    logprobs_v = model(torch.tensor([[tokenizer.eos_id, *ids]]))[0, -1].log_softmax(-1)
    end = -logprobs_v[tokenizer.eos_id].item() / math.log(2) / len(inner)
    assert found == pytest.approx(whole.bits_per_byte - end, abs=1e-4)


def test_another_vocabulary_has_bits_per_byte_but_no_divergence(folder, tmp_path):
    from tinyslm.model.config import ModelConfig
    from tinyslm.model.decoder import Decoder
    from tinyslm.tokenizer.training import train_tokenizer

    tokenizer = train_tokenizer([], kind="byte")
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, dim=32, head_dim=16, depth=1, context=256)
    save_model(Decoder(shape), tmp_path / "bytes", tokenizer)
    found = compare_models([folder, tmp_path / "bytes"], TEXTS, tokens=100).models[1]
    assert found.mean_kl is None
    assert found.bits_per_byte == pytest.approx(math.log2(320), abs=0.2)


def test_the_text_is_taken_from_all_over(folder):
    found = compare_models([folder], ["x " * 5000], tokens=256)
    assert found.passages == 256 // 64
    assert 150 < found.tokens <= 256


@pytest.mark.parametrize(
    ("paths", "texts", "problem"),
    [
        ([], TEXTS, "No models to compare"),
        (["FOLDER"], [" \n"], "text to compare the models on is empty"),
        (["nowhere"], TEXTS, "nowhere does not exist"),
        (["FOLDER/config.json"], TEXTS, "neither a model folder nor an export"),
        (["made.gguf"], TEXTS, "no model folder precedes it"),
    ],
)
def test_what_cannot_be_compared(folder, tmp_path, monkeypatch, paths, texts, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.gguf").write_bytes(b"GGUF")
    with pytest.raises(TinyslmError, match=problem):
        compare_models([path.replace("FOLDER", str(folder)) for path in paths], texts)


def test_no_zero_is_negative(comparison):
    found = cells(dataclasses.replace(comparison.models[1], change=-1e-9, mean_kl=-1e-9))
    assert found[4:6] == ("+0.00%", "0.0000")
    assert cells(dataclasses.replace(comparison.models[1], change=-0.011))[4] == "-1.10%"


class TestPage:
    def test_it_is_whole(self, comparison, tmp_path):
        written = write_comparison(comparison, tmp_path / "out")
        page = written.read_text()
        for model in comparison.models:
            assert all(cell in page for cell in cells(model))
        assert "<script" not in page
        assert (tmp_path / "out/comparison.png").read_bytes().startswith(b"\x89PNG")
        kept = json.loads((tmp_path / "out/comparison.json").read_text())
        assert [row["name"] for row in kept["models"]] == ["small", "rounded", "other"]
        with pytest.raises(TinyslmError, match="already holds a comparison"):
            check_unused(tmp_path / "out")

    def test_every_model_is_named_in_each_chart(self, comparison):
        charts = draw_quality(comparison.models)
        assert len(charts) == 2
        for chart in charts:
            shown = re.findall(r">([^<>]+)</text>", chart.svg())
            assert {"small", "rounded", "other"} <= set(shown)


def test_exports_are_compared_with_their_model(folder, tmp_path):
    made = export_model(folder, "gguf:q8_0,onnx:int4", tmp_path, verify=False)
    found = compare_models([folder, *(row.path for row in made)], TEXTS, tokens=128)
    _, gguf, onnx = found.models
    assert [model.kind for model in found.models] == ["folder", "gguf", "onnx"]
    assert 8 < gguf.bits_per_weight < 10
    assert 4 < onnx.bits_per_weight < 9
    assert 0 < gguf.mean_kl < onnx.mean_kl
    assert abs(gguf.change) < 0.01
    assert gguf.decode > 0 < onnx.decode
    graph = made[1].path / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:5000])
    with pytest.raises(TinyslmError, match="ONNX Runtime does not run"):
        compare_models([folder, made[1].path], TEXTS, tokens=64)


@pytest.fixture
def tasks(tmp_path) -> str:
    """Pairs, and texts in bits per byte."""
    pairs = [{"good": f"The {noun} runs.", "bad": f"The {noun}s runs.", "group": noun[:1]} for noun in WORDS]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (tmp_path / "pairs.toml").write_text('kind = "pairs"\ndata = "pairs.jsonl"\n')
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": f"A <b>{word}</b>."}) + "\n" for word in WORDS))
    (tmp_path / "texts.toml").write_text('kind = "bits_per_byte"\ndata = "texts.jsonl"\n')
    return f"{tmp_path / 'pairs.toml'},{tmp_path / 'texts.toml'}"


class TestTasks:
    def test_scores_are_those_of_evaluate(self, folder, tasks):
        found = compare_models([folder, folder], tasks=tasks, prompts=["The dog"])
        alone = evaluate_tasks(folder, tasks)
        for task, expected in zip(found.tasks, alone, strict=True):
            for score in task.scores:
                assert dataclasses.replace(score, seconds=0) == dataclasses.replace(expected, seconds=0)
            assert (task.differences[1].value, task.differences[1].corrected, task.disagreeing) == (0, 1, 0)
        assert [model.name for model in found.models] == [str(folder), f"{folder} (2)"]
        assert found.comparisons == 2
        assert (found.passages, found.models[0].bits_per_byte) == (0, None)
        (sample,) = found.samples
        assert sample.texts[0] == sample.texts[1] != ""

    def test_an_export_needs_no_folder_before_it(self, folder, tasks, tmp_path):
        made = export_model(folder, "gguf:f32", tmp_path, verify=False)
        found = compare_models([made[0].path, folder], tasks=tasks)
        assert [model.kind for model in found.models] == ["gguf", "folder"]
        assert found.models[0].parameters > 0
        assert found.models[0].memory == pytest.approx(found.models[1].memory, rel=0.02)
        for task in found.tasks:
            assert task.scores[0].value == pytest.approx(task.scores[1].value, abs=1e-3)

    def test_memory_is_of_weights_and_cache(self, folder, tasks):
        (model,) = compare_models([folder], tasks=tasks, prompts=()).models
        config = load_model(folder).config
        cache = 2 * config.depth * config.kv_heads * config.head_dim * min(1024, config.longest) * 4
        assert model.memory == pytest.approx(config.parameters * 4 + cache, rel=0.001)

    def test_training_is_known_of_runs(self, folder, tasks, tmp_path):
        training = {"training_tokens": 5000, "training_seconds": 61.0}
        save_model(load_model(folder), tmp_path / "trained", load_tokenizer(folder), training)
        (model,) = compare_models([tmp_path / "trained"], tasks=tasks, prompts=()).models
        assert (model.training_tokens, model.training_seconds) == (5000, 61.0)
        assert cost_cells(model)[-2:] == ("5 k", "1:01")

    def test_the_page_is_whole(self, folder, tasks, tmp_path):
        other = write_small_model(tmp_path / "<other>", seed=1)
        found = compare_models([folder, other], TEXTS, tasks, tokens=100)
        page = write_comparison(found, tmp_path / "out").read_text()
        for index, task in enumerate(found.tasks):
            for cell in (f"{task.scores[1].value:.3f}", f"{task.differences[1].corrected:.3f}", task_heading(task)):
                assert cell in page, index
        assert "A &lt;b&gt;" in page
        assert "<other>" not in page
        assert "http:" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)
        assert "2 comparisons (Holm)" in page
        kept = json.loads((tmp_path / "out/comparison.json").read_text())
        assert len(kept["tasks"][0]["scores"][0]["outcomes"]) == len(WORDS)
        drawn = draw_scores(["small", "other"], found.tasks)
        assert [re.findall(r">(small|other)</text>", chart.svg()) for chart in drawn] == [["small", "other"]] * 2
        assert "Chance: 0.500" in drawn[0].description

    def test_the_mean_is_over_tasks_that_all_have_a_score_on(self, folder):
        found = compare_models([folder, folder], tasks="grammar,everyday", prompts=(), settings=FEW)
        alone = centred_mean([task.scores[0] for task in found.tasks])
        assert (
            "Mean over 2 tasks, rescaled so that chance is 0 and a perfect score is 1: "
            f"{folder} {alone:.3f}, {folder} (2) {alone:.3f}." == means(found)
        )
        first, second = found.tasks
        without = dataclasses.replace(second, scores=(second.scores[0], None))
        assert means(dataclasses.replace(found, tasks=(first, without))) == ""

    def test_endpoints_have_what_they_can(self, folder, tasks, tmp_path, endpoint):
        (tmp_path / "ask.jsonl").write_text('{"prompt": "Say Hi.", "answer": "Hi"}\n')
        (tmp_path / "ask.toml").write_text('kind = "generation"\ndata = "ask.jsonl"\nmax_tokens = 4\n')
        with_generation = f"{tasks},{tmp_path / 'ask.toml'}"
        found = compare_models([folder, f"{endpoint}#theirs"], TEXTS, with_generation, tokens=50)
        ours, theirs = found.models
        assert (theirs.name, theirs.kind, theirs.bytes, theirs.bits_per_byte) == ("theirs", "endpoint", None, None)
        assert theirs.decode > 0
        assert ours.bits_per_byte > 0
        assert [task.scores[1] is None for task in found.tasks] == [True, True, False]
        assert (found.tasks[2].scores[1].value, found.tasks[2].differences[1].value) == (1, 1)
        assert found.samples[0].texts[1] == "Hi"
        assert any("does not return the probabilities" in note for note in found.notes)
        assert "–" in write_comparison(found, tmp_path / "out").read_text()
        (tmp_path / "ask.toml").write_text('kind = "generation"\ndata = "ask.jsonl"\nchat = true\n')
        chats = compare_models([f"{endpoint}/chats#theirs"], tasks=str(tmp_path / "ask.toml"))
        assert (chats.tasks[0].scores[0].value, chats.samples[0].texts) == (1, ("",))
        assert any("theirs cannot continue text" in note for note in chats.notes)
        with pytest.raises(TinyslmError, match="does not return the probabilities"):
            compare_models([f"{endpoint}#theirs"], tasks=tasks)
        with pytest.raises(TinyslmError, match="Endpoints cannot be compared on a text"):
            compare_models([f"{endpoint}#theirs"], TEXTS)


@pytest.fixture
def endpoint():
    """A server that says Hi, and no probabilities; at /chats, only in conversations."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            choice = {"text": "Hi", "message": {"content": "Hi"}, "finish_reason": "stop"}
            data = json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}).encode()
            chats = "/chats" in self.path
            self.send_response(404 if chats and not self.path.endswith("/chat/completions") else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def bytes_model(folder, seed=0, **shape):
    """A model that reads bytes."""
    from tinyslm.model.config import ModelConfig
    from tinyslm.model.decoder import Decoder
    from tinyslm.tokenizer.training import train_tokenizer

    torch.manual_seed(seed)
    tokenizer = train_tokenizer([], kind="byte")
    shape = {"dim": 32, "head_dim": 16, "depth": 1, "context": 64, **shape}
    save_model(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), folder, tokenizer)
    return folder


def test_an_export_whose_context_is_cut_to_the_window_fits(tmp_path):
    folder = write_small_model(tmp_path / "windowed", family="mistral", window=32, window_layers=(0,), context=512)
    made = export_model(folder, "gguf:f32", tmp_path, verify=False)
    first, gguf = compare_models([folder, made[0].path], TEXTS, tokens=128).models
    assert gguf.mean_kl < 1e-4
    assert gguf.bits_per_byte == pytest.approx(first.bits_per_byte, abs=1e-3)


def test_passages_fit_the_context_of_every_model(folder, tmp_path):
    found = compare_models([folder, bytes_model(tmp_path / "bytes", context=24)], TEXTS, tokens=100)
    assert found.utf8_bytes / found.passages < 24
    with pytest.raises(TinyslmError, match="has a context of only 1 tokens, too few to compare"):
        compare_models([folder, bytes_model(tmp_path / "none", context=1)], TEXTS)


def test_equal_ids_of_other_vocabularies_are_not_compared(tmp_path):
    one, two = bytes_model(tmp_path / "one"), write_small_model(tmp_path / "two")
    found = compare_models([one, two], ["é"], tokens=20).models
    assert found[1].mean_kl is None


def test_an_export_of_another_model_is_a_mistake(folder, tmp_path):
    other = bytes_model(tmp_path / "bytes")
    made = export_model(other, "gguf:f32,onnx:fp32", tmp_path, verify=False)
    for export in made:
        with pytest.raises(TinyslmError, match="was not made from a model folder that precedes it"):
            compare_models([folder, export.path], TEXTS, tokens=50)
    between = compare_models([other, folder, *(export.path for export in made)], TEXTS, tokens=50).models
    assert [model.mean_kl is None for model in between] == [False, True, False, False]
    assert max(between[2].mean_kl, between[3].mean_kl) < 1e-4
