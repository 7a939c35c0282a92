"""No space left: the run fails in words, the last good checkpoint survives, and the run goes on when there is space."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import one_life
import pytest

from tinyslm.core.files import sha256_file
from tinyslm.planning.train import resume, train
from tinyslm.training.checkpoint import list_checkpoints, newest_intact
from tinyslm.training.pipeline import Watch


def spend(paths: list[str], out: Path, config, largest_file: int = 0) -> subprocess.CompletedProcess[str]:
    """A process that trains into `out`."""
    order = {"paths": paths, "out": str(out), "config": config.model_dump(mode="json"), "largest_file": largest_file}
    command = [sys.executable, one_life.__file__, json.dumps(order)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MB, and a function that makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this user cannot mount a file system")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=60m", str(place)], check=True)
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
def test_a_full_disk(small_disk, tmp_path: Path, shards, tiny_config) -> None:
    place, enlarge = small_disk
    config = tiny_config(train={"steps": 20, "keep": 20})
    train([shards.folder], tmp_path / "undisturbed", settings=config)
    ended = spend([str(shards.folder)], place / "run", config)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert ended.stdout.startswith("Could not write")
    assert "No space left on device" in ended.stdout
    assert f"tinyslm train --resume {place / 'run'}\n" in ended.stdout
    warnings: list[str] = []
    good = newest_intact(place / "run" / "checkpoints", warnings.append)
    assert not warnings
    assert good == list_checkpoints(place / "run" / "checkpoints")[-1]
    assert 2 <= int(good.name[5:]) < 20
    enlarge()
    resume(place / "run")
    name = "model/model.safetensors"
    assert sha256_file(place / "run" / name) == sha256_file(tmp_path / "undisturbed" / name)


# A checkpoint's model file has 170 kB, its state file 340 kB; the log has a few.
@pytest.mark.parametrize("largest_file", [1_000, 200_000])
def test_files_that_may_not_grow(largest_file: int, tmp_path: Path, shards, tiny_config) -> None:
    config = tiny_config()
    train([shards.folder], tmp_path / "undisturbed", settings=config)
    with pytest.raises(KeyboardInterrupt):
        train([shards.folder], tmp_path / "run", settings=config, watch=Watch(event=_end_at_step_four))
    ended = spend([], tmp_path / "run", config, largest_file)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert ended.stdout.startswith("Could not write")
    assert f"tinyslm train --resume {tmp_path / 'run'}\n" in ended.stdout
    assert newest_intact(tmp_path / "run" / "checkpoints", print) == tmp_path / "run" / "checkpoints" / "step-000003"
    resume(tmp_path / "run")
    name = "model/model.safetensors"
    assert sha256_file(tmp_path / "run" / name) == sha256_file(tmp_path / "undisturbed" / name)


def _end_at_step_four(event) -> None:
    if event["event"] == "step" and event["step"] == 4:
        raise KeyboardInterrupt
