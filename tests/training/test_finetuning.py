"""Fine-tuning: only answers are learned, by adapters or by all weights; the result is a model folder like any other."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.model.lora import load_adapters
from tinyslm.planning.finetune import finetune
from tinyslm.planning.judging import read_outcomes
from tinyslm.planning.methods.method import ExampleFiles
from tinyslm.planning.train import resume, train
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import Watch

COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red"}
FAST = {"optimizer": {"lr": 0.01}, "train": {"batch": 2, "steps": 80, "checkpoint_minutes": 1.0, "device": "cpu"}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, shards) -> Path:
    out = tmp_path_factory.mktemp("base") / "run"
    shape = {"dim": 64, "heads": 2, "depth": 2, "context": 128, "dropout": 0.0}
    train([shards.folder], out, settings={"model": shape, "train": {"steps": 40, "batch": 4, "device": "cpu"}})
    return out / "model"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    made = [{"question": f"{name}?", "answer": colour} for name, colour in COLOURS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in made * 3))
    return path


def answer(model: Path, question: str) -> str:
    runtime = ModelRuntime.open(model)
    return runtime.generate(
        [{"role": "user", "content": question}], SamplingSettings(max_tokens=8, temperature=0.0)
    ).text


@pytest.mark.parametrize("rank", [8, 0])
def test_a_model_learns_to_answer(base: Path, rows: Path, tmp_path: Path, rank: int) -> None:
    out = tmp_path / "run"
    settings = {**FAST, "lora": {"rank": rank}}
    result = finetune(base, ExampleFiles([rows], valid=[rows]), out, settings=settings)
    assert result["verdict"]["better"]
    assert result["verdict"]["gain"]["change"] == pytest.approx(result["loss"] - result["before"]["loss"])
    assert result["verdict"]["general"]["texts"] > 10
    if rank:  # the base knows no conversations, and adapters leave its tables as they are
        assert result["high"] < 0.7 * result["before"]["low"]
    else:
        assert result["loss"] < 0.3 < 2 < result["before"]["loss"]
        assert [answer(out / "model", f"{name}?") for name in COLOURS] == list(COLOURS.values())
    assert (out / "adapter").exists() == bool(rank)
    assert (out / "report.html").exists()
    if rank:
        model = load_model(base)
        load_adapters(model, out / "adapter", base)
        merged, ids = load_model(out / "model"), torch.arange(12)[None]
        assert torch.allclose(model(ids), merged(ids), atol=1e-4)
        assert not torch.allclose(load_model(base)(ids), merged(ids), atol=1e-2)
        (checkpoint,) = list((out / "checkpoints").glob("step-*"))[-1:]
        assert (checkpoint / "model.safetensors").stat().st_size < 0.5 * (base / "model.safetensors").stat().st_size


def test_a_stopped_run_resumes_to_the_same_adapters(base: Path, rows: Path, tmp_path: Path) -> None:
    settings = {
        **FAST,
        "train": {**FAST["train"], "steps": 6, "checkpoint_minutes": 0.0},
        "lora": {"rank": 4, "dropout": 0.1},
    }

    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 3:
            raise Interrupted(3)

    whole = finetune(base, [rows], tmp_path / "whole", settings=settings)
    with pytest.raises(Interrupted):
        finetune(base, [rows], tmp_path / "stopped", settings=settings, watch=Watch(event=stop))
    resumed = resume(tmp_path / "stopped")
    assert resumed["verdict"] == whole["verdict"], "the base is measured once"
    one, other = (load_model(tmp_path / name / "model").state_dict() for name in ("whole", "stopped"))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_run_is_not_resumed_from_another_base(base: Path, rows: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")

    def stop(event: dict) -> None:
        if event["event"] == "checkpoint":
            raise Interrupted(1)

    settings = {**FAST, "train": {**FAST["train"], "checkpoint_minutes": 0.0}}
    with pytest.raises(Interrupted):
        finetune(tmp_path / "base", [rows], tmp_path / "run", settings=settings, watch=Watch(event=stop))
    changed = load_model(base)
    changed.model.norm.weight.data = 2 * changed.model.norm.weight
    save_model(changed, tmp_path / "base", load_tokenizer(base))
    with pytest.raises(TinyslmError, match="has changed since"):
        resume(tmp_path / "run")


def test_graded_answers_and_general_text_of_the_user(base: Path, rows: Path, tmp_path: Path) -> None:
    text = tmp_path / "general.txt"
    text.write_text("Some words that are not about colours. " * 20)
    settings = {**FAST, "lora": {"rank": 0}, "verdict": {"general": [str(text)], "questions": 20}}
    settings["train"] = {**FAST["train"], "grader": "exact"}
    out = tmp_path / "run"
    verdict = finetune(base, ExampleFiles([rows], valid=[rows]), out, settings=settings)["verdict"]
    assert verdict["gain"] == {**verdict["gain"], "unit": "score", "before": 0.0, "after": 1.0, "examples": 15}
    assert verdict["loss"]["unit"] == "nats per token"
    assert verdict["general"]["texts"] == 1
    before, after = read_outcomes(out)
    assert {one.question: one.reference for one in after.answers} == {f"{name}?": COLOURS[name] for name in COLOURS}
    assert [one.answer for one in after.answers] == [one.reference for one in before.answers]
    report = (out / "report.html").read_text()
    assert "Better on the task (+1.00 score" in report
    assert "after: score 1" in report
    with pytest.raises(TinyslmError, match='Unknown grader "exakt"'):
        finetune(base, [rows], tmp_path / "x", settings={"train": {"grader": "exakt"}})


def test_epochs_and_rows_follow_from_the_data(base: Path, rows: Path, tmp_path: Path) -> None:
    settings = {"train": {"device": "cpu"}}
    finetune(base, ExampleFiles([rows], valid=[rows], epochs=2), tmp_path / "run", settings=settings)
    config = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert config["row_tokens"] == 128, "no longer than the base's context"
    events = read_metrics(tmp_path / "run" / "metrics.jsonl")
    tokens = sum(row["tokens"] for row in events if row["event"] == "step")
    assert config["steps"] >= 1
    assert tokens > 0
    assert "bits_per_byte" not in next(row for row in events if row["event"] == "validation")


def test_what_cannot_be_done_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match="Both minutes and epochs"):
        finetune(base, ExampleFiles([rows], epochs=1), tmp_path / "run", minutes=1)
    with pytest.raises(TinyslmError, match="no linear layer"):
        finetune(base, [rows], tmp_path / "run", settings={**FAST, "lora": {"targets": ["c_attn"]}})
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"text": "x"}\n')
    with pytest.raises(TinyslmError, match=r"bare\.jsonl, row 1 cannot be used"):
        finetune(base, [bare], tmp_path / "other")
    assert not (tmp_path / "other" / "config.json").exists()
    with pytest.raises(TinyslmError, match=r"lora\.rank needs a model to adapt"):
        train([rows], tmp_path / "x", settings={"lora": {"rank": 4}})
