"""`tinyslm train --from MODEL TEXT`: a model that exists learns a text, and what that changed is measured."""

from pathlib import Path

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.planning.train import Limits, resume, train
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.pipeline import Watch


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned nothing yet; not to be written to."""
    folder = tmp_path_factory.mktemp("continuing") / "base"
    tokenizer = train_tokenizer([], kind="byte")
    torch.manual_seed(1)
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, dim=32, depth=1, head_dim=16, context=64)
    save_model(Decoder(shape), folder, tokenizer)
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Another text, as one document."""
    (tmp_path / "notes.txt").write_text(
        "".join(f"Note {n}: the pump of unit {n % 7} was checked.\n" for n in range(900))
    )
    return tmp_path / "notes.txt"


def settings_from(base: Path, **loop: object) -> dict:
    return {"train": {"start_from": str(base), "device": "cpu", **loop}}


def test_the_change_on_both_texts_is_measured(base: Path, notes: Path, tmp_path: Path) -> None:
    result = train([notes], tmp_path / "run", settings=settings_from(base, steps=40, row_tokens=32))
    verdict = result["verdict"]
    assert verdict["loss"]["unit"] == "bits per byte"
    assert verdict["loss"]["before"] == pytest.approx(result["before"]["bits_per_byte"], rel=1e-6)
    assert verdict["loss"]["after"] == pytest.approx(result["bits_per_byte"], rel=1e-6)
    assert verdict["loss"]["after"] < verdict["loss"]["before"]
    assert verdict["loss"]["examples"] > 1, "a single document is compared piece by piece"
    assert {"before", "after", "change"} <= verdict["general"].keys()
    assert "this text" in verdict["words"]
    model = load_model(tmp_path / "run" / "model")
    assert model.config == load_model(base).config
    assert load_tokenizer(tmp_path / "run" / "model").sha256 == load_tokenizer(base).sha256
    config = RunConfig(**read_json(tmp_path / "run" / "config.json"))
    assert (config.optimizer.name, config.optimizer.lr, config.row_tokens) == ("adamw", 1e-3, 32)
    assert "bits per byte" in (tmp_path / "run" / "report.html").read_text()


def test_a_run_with_a_time_is_planned(base: Path, notes: Path, tmp_path: Path) -> None:
    events: list[dict] = []
    watch = Watch(event=events.append)
    result = train([notes], tmp_path / "run", minutes=0.05, settings=settings_from(base), watch=watch)
    plan = next(event["plan"] for event in events if event["event"] == "planned")
    assert plan.config.row_tokens == 64
    assert plan.rows > 0
    assert plan.steps > 0
    assert result["verdict"]["loss"]["before"] > 0


def test_an_interrupted_run_ends_with_the_same_verdict(base: Path, notes: Path, tmp_path: Path) -> None:
    settings = settings_from(base, steps=6, batch=2, checkpoint_minutes=0)
    whole = train([notes], tmp_path / "whole", settings=settings)

    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 3:
            raise Interrupted(3)

    with pytest.raises(Interrupted):
        train([notes], tmp_path / "part", settings=settings, watch=Watch(event=stop))
    resumed = resume(tmp_path / "part")
    assert resumed["verdict"] == whole["verdict"]


def test_what_a_model_has_already_is_not_given(base: Path, notes: Path, tmp_path: Path) -> None:
    for more in ({"plan": Limits(parameters=1000)}, {"tokenizer": base}):
        with pytest.raises(TinyslmError, match="already has a shape and a tokenizer"):
            train([notes], tmp_path / "run", settings=settings_from(base), **more)
    with pytest.raises(TinyslmError, match="nowhere"):
        train([notes], tmp_path / "run", settings=settings_from(tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()
