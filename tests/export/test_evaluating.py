"""Tasks give one score, whatever program runs the model."""

import inspect
import json
from pathlib import Path

import pytest
import torch

from tinyslm import evaluate_tasks
from tinyslm.core.errors import TinyslmError
from tinyslm.export.exporting import export_model
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.training import train_tokenizer

PAIRS = [("def get(self):", "get self def:("), ("return None", "None return"), ("import os", "os import")]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([inspect.getsource(inspect)], vocab_size=512)
    shape = {"dim": 64, "head_dim": 32, "depth": 2, "context": 128, "init_std": 0.2}
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), folder, tokenizer)
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    rows = [{"good": good, "bad": bad} for good, bad in PAIRS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pairs.toml").write_text('kind = "pairs"\ndata = "pairs.jsonl"\n')
    rows = [{"prompt": "def get", "answer": "x"}, {"prompt": " self" * 400, "answer": "x"}]
    (folder / "write.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "write.toml").write_text('kind = "generation"\ndata = "write.jsonl"\nmax_tokens = 4\n')
    return folder


@pytest.mark.parametrize("target", ["gguf:f32", "onnx:fp32"])
def test_exports_have_the_model_s_scores(model, task, tmp_path, target) -> None:
    (made,) = export_model(model, target, tmp_path, verify=False)
    tasks = [str(task / "pairs.toml"), str(task / "write.toml")]
    ours, theirs = (evaluate_tasks(place, tasks) for place in (model, made.path))
    assert [score.outcomes for score in ours] == [score.outcomes for score in theirs]
    assert ours[1].answers == theirs[1].answers
    assert (ours[0].tokens, ours[1].truncated) == (theirs[0].tokens, theirs[1].truncated)
    assert ours[1].truncated == 1


def test_what_is_no_model_is_named(task, tmp_path) -> None:
    with pytest.raises(TinyslmError, match="does not exist"):
        evaluate_tasks(tmp_path / "nothing", str(task / "pairs.toml"))
    with pytest.raises(TinyslmError, match="neither a model folder nor an export"):
        evaluate_tasks(task / "pairs.toml", str(task / "pairs.toml"))
