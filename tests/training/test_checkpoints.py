"""Checkpoints: whole or absent, exact, rotated; a damaged one is passed over."""

import json
from pathlib import Path

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.training.checkpoint import (
    Progress,
    best_name,
    checkpoint_name,
    list_checkpoints,
    load_checkpoint,
    newest_intact,
    rotate,
    save_checkpoint,
)
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.optimizers import Optimizers


def made(seed: int, family: str = "qwen3") -> tuple[Decoder, Optimizers]:
    """A model and its optimizers after a step."""
    torch.manual_seed(seed)
    model = Decoder(ModelConfig(family=family, vocab_size=64, dim=32, heads=2, depth=1, context=16))
    optimizers = Optimizers(model, OptimizerConfig())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers.step(1.0)
    return model, optimizers


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 5, 10 and 15."""
    for step in (5, 10, 15):
        save_checkpoint(tmp_path / checkpoint_name(step), *made(step), Progress(step=step))
    return tmp_path


@pytest.mark.parametrize("family", ["qwen3", "tinyslm"])
def test_everything_comes_back(family: str, tmp_path: Path) -> None:
    model, optimizers = made(1, family)
    progress = Progress(12, 3456, 7.5, {"epoch": 1, "position": 8}, 2.5, 10)
    folder = tmp_path / "checkpoints" / checkpoint_name(12)
    save_checkpoint(folder, model, optimizers, progress)
    drawn = torch.rand(5)
    other, other_optimizers = made(2, family)
    assert load_checkpoint(folder, other, other_optimizers) == progress
    assert torch.equal(torch.rand(5), drawn)
    for found, expected in ((other.state_dict(), model.state_dict()), (other_optimizers.state(), optimizers.state())):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "state.json",
        "state.safetensors",
    ]


def test_what_was_loaded_does_not_change_the_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / checkpoint_name(1)
    save_checkpoint(folder, *made(1), Progress(1))
    before = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    model, optimizers = made(2)
    load_checkpoint(folder, model, optimizers)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step(1.0)
    assert {entry.name: entry.read_bytes() for entry in folder.iterdir()} == before


def test_the_newest_is_found(several: Path) -> None:
    warnings: list[str] = []
    assert newest_intact(several, warnings.append) == several / "step-000015"
    assert not warnings
    assert newest_intact(several / "nowhere", warnings.append) is None


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_newest_is_passed_over_with_a_warning(several: Path, name: str, damage: str) -> None:
    path = several / "step-000015" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] if damage == "truncated" else content[:middle] + b"#" + content[middle + 1 :])
    warnings: list[str] = []
    assert newest_intact(several, warnings.append) == several / "step-000010"
    assert len(warnings) == 1
    assert "step-000015 is damaged and not used" in warnings[0]
    (several / "step-000010" / "state.json").write_text("{}")
    assert newest_intact(several, warnings.append) == several / "step-000005"


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000, 7):
        (tmp_path / checkpoint_name(step)).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000007", "step-999999", "step-1000000"]


def test_rotation_keeps_the_newest_and_the_best_of_each(several: Path) -> None:
    for step, best in ((5, 2), (10, 4), (15, 4)):
        state = several / checkpoint_name(step) / "state.json"
        state.write_text(json.dumps({**json.loads(state.read_text()), "best_step": best}))
    for step in (2, 4, 12):
        (several / best_name(step)).mkdir()
    rotate(several / "step-000015", 3)
    assert sorted(entry.name for entry in several.glob("best-*")) == ["best-000002", "best-000004"]
    rotate(several / "step-000015", 2)
    assert sorted(entry.name for entry in several.iterdir()) == ["best-000004", "step-000010", "step-000015"]
    rotate(several / "step-000015", 5)
    assert len(list_checkpoints(several)) == 2


@pytest.mark.parametrize(("keep", "left"), [(1, [10]), (2, [5, 10]), (3, [5, 10])])
def test_checkpoints_after_the_newest_are_of_no_use(several: Path, keep: int, left: list[int]) -> None:
    """The run has gone on from step 5: the damaged checkpoint of step 15 must not push the new ones out."""
    rotate(several / "step-000010", keep)
    assert [path.name for path in list_checkpoints(several)] == [checkpoint_name(step) for step in left]


def test_a_failed_save_leaves_the_older_one(several: Path, monkeypatch) -> None:
    target = several / "step-000015"
    before = (target / "model.safetensors").read_bytes()

    def full(*_args, **_kwargs) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinyslm.training.checkpoint.write_manifest", full)
    with pytest.raises(TinyslmError, match="No space left on device"):
        save_checkpoint(target, *made(3), Progress(15))
    assert (target / "model.safetensors").read_bytes() == before
    assert len(list(several.iterdir())) == 3
