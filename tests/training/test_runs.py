"""Whole runs: what they write, that they repeat and resume exactly, and what they refuse."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_file
from tinyslm.data.shards import Shards
from tinyslm.evaluation.loss import document_losses
from tinyslm.inference.opening import open_engine
from tinyslm.planning.train import resume, train
from tinyslm.training.checkpoint import list_checkpoints
from tinyslm.training.config import RunConfig
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import Watch, finish, start
from tinyslm.training.run import Run
from tinyslm.training.stages.pretrain import Pretrain, next_token_loss


class Killed(Exception):
    """Stands for the end of a process."""


def stop_after(step: int, kind: str = "checkpoint"):
    """A watcher that ends the run at the event of a step."""

    def watch(event) -> None:
        if event["event"] == kind and event["step"] == step:
            raise Killed

    return watch


def weights_hash(run: Path) -> str:
    return sha256_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shards: Shards) -> Path:
    """The folder of a run of 8 steps (`tiny_config()`) that nothing disturbed."""
    from tiny_run import TINY

    from tinyslm.core.config import build_config

    out = tmp_path_factory.mktemp("runs") / "finished"
    train([shards.folder], out, settings=build_config(RunConfig, TINY))
    return out


@pytest.fixture
def stopped(tmp_path: Path, shards: Shards, tiny_config) -> Path:
    """The folder of the same run, ended after its fifth checkpoint."""
    with pytest.raises(Killed):
        finish(start([shards.folder], tmp_path / "stopped", config=tiny_config()), stop_after(5))
    return tmp_path / "stopped"


def test_a_run_folder_holds_everything(finished: Path) -> None:
    assert sorted(entry.name for entry in finished.iterdir()) == [
        "checkpoints", "config.json", "data.json", "metrics.jsonl", "model",
        "report.html", "report.png", "result.json", "versions.json",
    ]  # fmt: skip
    config = json.loads((finished / "config.json").read_text())
    assert config["train"]["steps"] == 8
    assert config["model"]["vocab_size"] == 320
    assert {"torch", "python", "tinyslm"} <= json.loads((finished / "versions.json").read_text()).keys()
    names = ["best-000007", "best-000008", "step-000007", "step-000008"]
    assert sorted(entry.name for entry in (finished / "checkpoints").iterdir()) == names


def test_events_tell_the_story(finished: Path) -> None:
    rows = read_metrics(finished / "metrics.jsonl")
    assert rows[0]["event"] == "start"
    assert (rows[0]["steps"], rows[0]["tokens_per_step"], rows[0]["resumed_from"]) == (8, 64, 0)
    assert [row["step"] for row in rows if row["event"] == "step"] == list(range(1, 9))
    assert [row["tokens"] for row in rows if row["event"] == "step"] == [64 * step for step in range(1, 9)]
    assert [row["step"] for row in rows if row["event"] == "checkpoint"] == list(range(1, 9))
    assert {row["event"] for row in rows} == {"start", "step", "validation", "sample", "checkpoint", "scoring", "end"}
    assert rows[-1]["event"] == "end"
    assert rows[-1]["result"] == json.loads((finished / "result.json").read_text())


def test_the_model_folder_has_the_score_of_the_result(finished: Path, shards: Shards) -> None:
    engine = open_engine(finished / "model")
    split = shards.split("valid")
    documents = [(split.document(i)[:-1].tolist(), split.document_bytes(i)) for i in range(split.documents)]
    result = json.loads((finished / "result.json").read_text())
    score = document_losses(engine.model, documents, end_id=engine.tokenizer.eos_id).score()
    assert score.loss == pytest.approx(result["loss"], rel=1e-6)
    assert score.bits_per_byte == pytest.approx(result["bits_per_byte"], rel=1e-6)
    assert engine.model.config.parameters == result["parameters"]


def test_the_best_validation_decides_the_model(tmp_path: Path, shards: Shards, tiny_config) -> None:
    # A learning rate far too high at the end: the best weights are those of an earlier step.
    config = tiny_config(
        train={"steps": 12, "validate_every": 1},
        optimizer={"muon_lr": 0.5, "lr": 0.3},
        schedule={"warmup": 1, "decay": 0},
    )
    result = train([shards.folder], tmp_path / "run", settings=config)
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "run/metrics.jsonl") if r["event"] == "validation"}
    assert result["step"] == min(losses, key=losses.__getitem__) < 12


def test_runs_repeat_bit_for_bit(finished: Path, tmp_path: Path, shards: Shards, tiny_config) -> None:
    train([shards.folder], tmp_path / "again", settings=tiny_config())
    assert weights_hash(tmp_path / "again") == weights_hash(finished)
    train([shards.folder], tmp_path / "other", settings=tiny_config(train={"seed": 2}))
    assert weights_hash(tmp_path / "other") != weights_hash(finished)


def test_looking_does_not_disturb(finished: Path, tmp_path: Path, shards: Shards, tiny_config) -> None:
    config = tiny_config(train={"validate_every": 1, "sample_every": 1, "log_every": 3, "checkpoint_minutes": 60})
    train([shards.folder], tmp_path / "watched", settings=config)
    last = "checkpoints/step-000008/model.safetensors"
    assert sha256_file(tmp_path / "watched" / last) == sha256_file(finished / last)


def test_a_resumed_run_ends_the_same(finished: Path, stopped: Path) -> None:
    torch.manual_seed(99)  # whatever this process has drawn before
    resume(stopped)
    assert weights_hash(stopped) == weights_hash(finished)
    rows = [
        [(row["event"], row.get("step"), row.get("loss")) for row in read_metrics(run / "metrics.jsonl")[1:]]
        for run in (finished, stopped)
    ]
    assert [row for row in rows[1] if row[0] != "start"] == rows[0]


def test_a_damaged_newest_checkpoint_is_passed_over(finished: Path, stopped: Path) -> None:
    path = stopped / "checkpoints" / "step-000005" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    said: list[str] = []
    resume(stopped, watch=Watch(notify=said.append))
    assert len(said) == 1
    assert "step-000005 is damaged" in said[0]
    assert read_metrics(stopped / "metrics.jsonl")[-1]["event"] == "end"
    assert weights_hash(stopped) == weights_hash(finished)


def test_a_run_without_an_intact_checkpoint_starts_again(finished: Path, stopped: Path) -> None:
    for checkpoint in (stopped / "checkpoints").glob("step-*"):
        (checkpoint / "manifest.json").unlink()
    resume(stopped)
    assert weights_hash(stopped) == weights_hash(finished)


def test_a_finished_run_is_not_run_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    seen: list[dict] = []
    assert resume(finished, watch=Watch(event=seen.append)) == json.loads((finished / "result.json").read_text())
    assert [event["event"] for event in seen] == ["finished"]
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


@pytest.mark.parametrize("missing", ["report.html", "result.json"])
def test_a_run_killed_at_its_very_end_is_completed(finished: Path, tmp_path: Path, missing: str) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / missing).unlink()
    resume(run)
    assert (run / missing).is_file()
    assert weights_hash(run) == weights_hash(finished)


def test_leftovers_of_a_killed_process_are_removed(stopped: Path) -> None:
    for name in (".best-000006.123.old", ".step-000006.123.tmp"):
        (stopped / "checkpoints" / name).mkdir()
    (stopped / ".model.123.tmp").mkdir()
    for name in (".result.json.123.tmp", ".data.lock", ".lock"):
        (stopped / name).touch()
    resume(stopped)
    assert not [path for path in stopped.rglob(".*") if path.name != ".cache"]


def test_a_run_killed_before_it_began_is_no_obstacle(tmp_path: Path, shards: Shards, tiny_config) -> None:
    out = tmp_path / "run"
    Run.start(out, shards.folder, tiny_config())
    (out / "config.json").unlink()  # the file that is written last
    result = train([shards.folder], out, settings=tiny_config(train={"steps": 2}))
    assert result["training_tokens"] == 2 * 64
    assert (out / "model" / "model.safetensors").is_file()


def test_resuming_with_other_settings_names_them(stopped: Path, tiny_config) -> None:
    changed = tiny_config(model={"depth": 3}, train={"batch": 8}, optimizer={"lr": 0.1})
    with pytest.raises(TinyslmError) as caught:
        resume(stopped, settings=changed)
    for change in ("model.depth: 2 -> 3", "train.batch: 4 -> 8", "optimizer.lr: 0.004 -> 0.1"):
        assert change in caught.value.problem
    assert "schedule" not in caught.value.problem
    assert "vocab_size" not in caught.value.problem


def test_resuming_with_the_same_settings_is_fine(stopped: Path, finished: Path, tiny_config) -> None:
    resume(stopped, settings=tiny_config())
    assert weights_hash(stopped) == weights_hash(finished)


def test_minutes_become_steps_that_are_kept(tmp_path: Path, shards: Shards, tiny_config) -> None:
    config = tiny_config(train={"steps": 0, "minutes": 0.05, "checkpoint_minutes": 0})
    run = start([shards.folder], tmp_path / "run", config=config)
    assert run.config.train.steps == 0
    steps = run.steps
    assert steps > 0
    with pytest.raises(Killed):
        finish(run, stop_after(1))
    again = Run.resume(tmp_path / "run", config)
    assert again.config == run.config
    assert again.progress.step == 1
    assert again.timetable.planned == steps


def test_measuring_the_pace_changes_nothing(tmp_path: Path, shards: Shards, tiny_config) -> None:
    measured = start([shards.folder], tmp_path / "a", config=tiny_config(train={"steps": 0, "minutes": 0.02}))
    drawn = torch.rand(3)
    given = start([shards.folder], tmp_path / "b", config=tiny_config())
    assert torch.equal(torch.rand(3), drawn)
    assert measured.stage.batches.state() == given.stage.batches.state()
    for one, other in zip(measured.model.parameters(), given.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_folder_with_another_run_is_refused(finished: Path, shards: Shards, tiny_config) -> None:
    before = weights_hash(finished)
    with pytest.raises(TinyslmError, match="already holds a run") as caught:
        train([shards.folder], finished, settings=tiny_config())
    assert f"--resume {finished}" in caught.value.remedy
    assert weights_hash(finished) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path, shards: Shards, tiny_config) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(TinyslmError, match=r"no run folder .*thesis\.txt"):
        train([shards.folder], tmp_path, settings=tiny_config())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_resuming_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match="no run in"):
        resume(tmp_path / "nowhere")


def test_altered_shards_are_noticed(tmp_path: Path, shards: Shards, tiny_config) -> None:
    own = shutil.copytree(shards.folder, tmp_path / "shards")
    with pytest.raises(Killed):
        finish(start([own], tmp_path / "run", config=tiny_config()), stop_after(2))
    tokens = own / "train-00000.bin"
    content = bytearray(tokens.read_bytes())
    content[10] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(TinyslmError, match=r"train-00000\.bin is damaged"):
        resume(tmp_path / "run")
    content[10] ^= 1
    tokens.write_bytes(content)
    manifest = json.loads((own / "manifest.json").read_text())
    (own / "manifest.json").write_text(json.dumps({**manifest, "note": "made again"}))
    with pytest.raises(TinyslmError, match="is not what"):
        resume(tmp_path / "run")
    shutil.rmtree(own)
    with pytest.raises(TinyslmError, match="does not exist"):
        resume(tmp_path / "run")


def test_a_run_can_be_moved_with_its_own_shards(tmp_path: Path, text_file: Path, tiny_config, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Killed):
        finish(start([text_file], Path("run"), config=tiny_config(tokenizer={"kind": "byte"})), stop_after(2))
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    (tmp_path / "run").rename(moved)
    assert resume(moved)["step"] > 0


def test_too_little_text_is_told_before_anything_is_written(tmp_path: Path, shards: Shards, tiny_config) -> None:
    with pytest.raises(TinyslmError, match="a window of context 100000"):
        train([shards.folder], tmp_path / "run", settings=tiny_config(model={"context": 100_000, "dim": 2, "heads": 1}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"device": "tpu"}}, 'Unknown device "tpu"'),
        ({"train": {"dtype": "fp16"}}, "train.dtype"),
        ({"train": {"sinks": ["tensorbord"]}}, 'Unknown sink "tensorbord"'),
    ],
)
def test_impossible_settings_are_told_before_anything_is_written(
    tmp_path: Path, shards: Shards, tiny_config, changes: dict, told: str
) -> None:
    with pytest.raises(TinyslmError, match=told):
        train([shards.folder], tmp_path / "run", settings=tiny_config(**changes))
    assert not (tmp_path / "run").exists()


def test_three_steps_that_are_not_finite_end_the_run_and_it_can_be_resumed(
    tmp_path: Path, shards: Shards, tiny_config, finished: Path, monkeypatch
) -> None:
    calls = iter(range(1000))

    def broken(_stage, model, batch):
        loss, weight, metrics = next_token_loss(model, batch)
        return loss * (float("nan") if next(calls) >= 8 else 1.0), weight, metrics  # two calls in a step

    monkeypatch.setattr(Pretrain, "loss", broken)
    with pytest.raises(TinyslmError, match="the loss is not finite, 3 steps in a row"):
        train([shards.folder], tmp_path / "run", settings=tiny_config(train={"checkpoint_minutes": 60, "keep": 9}))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if row["event"] == "skipped"] == [5, 6, 7]
    monkeypatch.undo()
    resume(tmp_path / "run")
    assert weights_hash(tmp_path / "run") == weights_hash(finished)


def test_weights_that_did_best_on_a_way_not_taken_are_left_alone(
    tmp_path: Path, shards: Shards, tiny_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is killed after a validation that no checkpoint knows of, and goes on otherwise."""
    losses = {2: 1.0, 4: 0.5, 6: 3.0, 8: 3.0}
    monkeypatch.setattr(Run, "quick_loss", lambda run: losses[run.progress.step])
    config = tiny_config(train={"validate_every": 2, "keep": 9})
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    assert train([shards.folder], killed, settings=config)["step"] == 4
    for path in (killed / "report.html", *list_checkpoints(killed / "checkpoints")[3:]):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    losses[4] = 2.0
    assert resume(killed)["step"] == 2
    train([shards.folder], undisturbed, settings=config)
    assert weights_hash(killed) == weights_hash(undisturbed)


def test_a_damaged_best_checkpoint_does_not_end_the_run(stopped: Path, finished: Path) -> None:
    def damage_at_the_end(event) -> None:
        if event["event"] == "scoring":
            for best in (stopped / "checkpoints").glob("best-*"):
                (best / "model.safetensors").write_bytes(b"damaged")

    result = resume(stopped, watch=Watch(event=damage_at_the_end))
    (warning,) = [row for row in read_metrics(stopped / "metrics.jsonl") if row["event"] == "warning"]
    assert "is damaged" in warning["text"]
    assert result["step"] == 8
    assert (stopped / "model" / "model.safetensors").is_file()


def test_two_processes_do_not_work_on_one_run(stopped: Path) -> None:
    with Run.resume(stopped).folder.lock, pytest.raises(TinyslmError, match="is already writing"):
        resume(stopped)
    assert resume(stopped)["training_tokens"] == 8 * 64


def test_a_second_run_for_the_same_folder_does_not_touch_the_text_of_the_first(
    tmp_path: Path, text_file: Path, tiny_config
) -> None:
    """It asks for the lock before it prepares anything, and what the first has prepared stays."""
    out, refused = tmp_path / "run", []

    def second(*_: object) -> None:
        with pytest.raises(TinyslmError, match=r"is already writing .*run"):
            start([text_file], out, config=tiny_config(tokenizer={"kind": "char"}))
        refused.append(sorted(path.name for path in out.iterdir()))

    result = finish(start([text_file], out, config=tiny_config(train={"steps": 2}), watch=Watch(progress=second)))
    assert refused
    assert all("config.json" not in names for names in refused)
    assert json.loads((out / "data" / "manifest.json").read_text())["tokenizer"]["kind"] == "byte"
    assert result["training_tokens"] == 2 * 64
    assert not (out / ".lock").exists()


def test_what_changed_since_the_start_is_told(stopped: Path) -> None:
    versions = json.loads((stopped / "versions.json").read_text())
    (stopped / "versions.json").write_text(json.dumps({**versions, "torch": "1.0", "threads": "64"}))
    told: list[str] = []
    Run.resume(stopped, warn=told.append)
    (message,) = told
    assert f"torch: 1.0 -> {torch.__version__}" in message
    assert "threads: 64 -> " in message


def test_a_stop_during_the_final_score_can_be_resumed(finished: Path, tmp_path: Path, shards, tiny_config) -> None:
    import os
    import signal

    from tinyslm.training.interrupt import Interrupted

    def interrupt(event) -> None:
        if event["event"] == "scoring":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train([shards.folder], tmp_path / "run", settings=tiny_config(), watch=Watch(event=interrupt))
    assert not (tmp_path / "run" / "result.json").exists()
    resume(tmp_path / "run")
    assert weights_hash(tmp_path / "run") == weights_hash(finished)


def test_a_run_that_computes_blocks_again_learns_the_same(
    tmp_path: Path, shards: Shards, tiny_config, finished
) -> None:
    config = tiny_config(train={"checkpoint_activations": True})
    with pytest.raises(Killed):
        finish(start([shards.folder], tmp_path / "run", config=config), stop_after(5))
    resume(tmp_path / "run")
    assert weights_hash(tmp_path / "run") == weights_hash(finished)
