"""Runs that have not ended, and run folders that nobody named."""

from pathlib import Path
from shutil import rmtree

import pytest
from the_command import TINY

from tinyslm.cli.train import new_run
from tinyslm.model.folder import load_model
from tinyslm.training.config import RunConfig
from tinyslm.training.pipeline import start
from tinyslm.training.unfinished import best_so_far


@pytest.fixture
def running(texts: Path, tmp_path: Path) -> Path:
    """The folder of a run that is in the middle of its training."""
    settings = {"model": {"dim": 32, "depth": 1, "head_dim": 16, "context": 32}}
    train = {"steps": 8, "batch": 4, "device": "cpu", "validate_every": 2, "checkpoint_minutes": 0}
    run = start([texts], tmp_path / "run", RunConfig(**settings, train=train))
    events = run.events()
    for event in events:
        if event["event"] == "validation" and event["step"] == 4:
            break
    events.close()
    return tmp_path / "run"


def test_the_best_weights_of_a_run_that_trains_are_used(tinyslm, running: Path) -> None:
    with best_so_far(running) as (folder, step):
        assert load_model(folder).config.dim == 32
        assert step in (2, 4)
    assert not folder.exists()
    ended = tinyslm("generate", running, "the", "--max-tokens", "4", "--seed", "1")
    assert (ended.code, ended.err.count("\n")) == (0, 1), ended
    assert f"The run in {running} has not ended: this is its best model so far, of step {step}." in ended.err
    assert ended.out.startswith("the")
    assert tinyslm("look", running, "--text", "a", "--out", "look.html").code == 0
    for best in (running / "checkpoints").glob("best-*"):
        (best / "model.safetensors").unlink()
    assert tinyslm("generate", running, "the").code == 2


def test_a_run_without_weights_is_told(tinyslm, running: Path) -> None:
    for best in (running / "checkpoints").glob("best-*"):
        rmtree(best)
    told = tinyslm("generate", running, "the").mistake()
    assert "has not been validated yet" in told
    assert f"tinyslm train --resume {running}" in told


def test_a_run_folder_is_named_after_its_text(tinyslm, texts: Path) -> None:
    ended = tinyslm("train", texts, *TINY)
    assert ended.code == 0, ended
    assert "\nRun folder: runs/texts\n" in ended.out
    assert Path("runs/texts/model/config.json").is_file()
    Path("my.notes.txt.gz").touch()
    names = {
        f"{texts}/*.txt": "texts-2",
        "my.notes.txt.gz": "my.notes",
        "hf://someone/stories": "stories",
        "-": "text",
        ".": Path.cwd().name,
    }
    assert {text: new_run(text) for text in names} == {text: Path("runs") / name for text, name in names.items()}
    assert "Nothing to train on was given" in tinyslm("train").mistake()
