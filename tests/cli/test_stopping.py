"""A run that is stopped on the command line: it says how to go on, is shown as it is, and goes on."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from the_command import COMMAND, TINY, Ended, entries

STEPS = 100_000


@pytest.fixture(scope="session")
def stopped_run(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> tuple[Path, Ended]:
    """The run folder of a run that was stopped by Ctrl-C, and how it ended; not to be written to."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    settings = [*TINY, f"--train.steps={STEPS}", f"--train.validate_every={STEPS}", f"--train.sample_every={STEPS}"]
    command = [COMMAND, "train", str(texts), "--out", str(out), *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _wait(process, lambda: (out / "metrics.jsonl").is_file() and b'"step", "step": 3,' in _read(out))
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    return out, Ended(process.returncode, said, errors)


@pytest.fixture
def stopped(stopped_run: tuple[Path, Ended]) -> Path:
    """A copy of that run folder."""
    return Path(shutil.copytree(stopped_run[0], "run"))


def test_ctrl_c_says_how_to_go_on(stopped_run: tuple[Path, Ended]) -> None:
    out, ended = stopped_run
    assert (ended.code, "error" in ended.err) == (130, False)
    said = ended.out.splitlines()
    assert said[-1].endswith(f"tinyslm train --resume {out}")
    step = _step(out)
    assert said[-2] == f"Stopped after step {step:,}; everything is saved. Resume with:"
    assert (out / "checkpoints" / f"step-{step:06d}").is_dir()


def test_an_unfinished_run_is_shown(tinyslm, stopped: Path) -> None:
    shown = tinyslm("show", "run").out
    assert f"step {_step(stopped):,} of {STEPS:,}, not finished (go on with: tinyslm train --resume run)." in shown


@pytest.mark.parametrize("log", [b"", None])
def test_a_run_that_was_killed_before_its_first_step(tinyslm, finished: Path, log: bytes | None) -> None:
    run = Path(shutil.copytree(finished, "run"))
    for name in ("model", "checkpoints"):
        shutil.rmtree(run / name)
    for name in ("result.json", "report.html", "metrics.jsonl"):
        (run / name).unlink()
    (run / "checkpoints").mkdir()
    if log is not None:
        (run / "metrics.jsonl").write_bytes(log)
    said = tinyslm("show", "run").out
    assert said == "run: a run that has not begun (go on with: tinyslm train --resume run).\n"
    assert tinyslm("train", "--resume", "run").code == 0
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (run, finished)]
    assert weights[0] == weights[1]


def test_an_unfinished_run_has_no_model(tinyslm, stopped: Path, texts: Path) -> None:
    said = tinyslm("evaluate", "run", texts).mistake()
    assert said.endswith("The run in run has not finished: it has no model yet. Resume it: tinyslm train --resume run")
    assert (
        "The run in run has not been validated yet: it has no weights to use." in tinyslm("generate", "run").mistake()
    )


def test_resuming_with_changed_settings_names_them(tinyslm, stopped: Path) -> None:
    before = entries(stopped)
    said = tinyslm("train", "--resume", "run", "--model.depth", "2", "--train.batch=8").mistake()
    assert "model.depth: 1 -> 2; train.batch: 4 -> 8" in said
    Path("run.toml").write_text("[optimizer]\nlr = 1.0\n")
    assert "optimizer.lr: 0.004 -> 1.0" in tinyslm("train", "--resume", "run", "--config", "run.toml").mistake()
    assert 'Did you mean "model.depth"?' in tinyslm("train", "--resume", "run", "--model.deth", "2").mistake()
    assert entries(stopped) == before


def test_a_stopped_run_goes_on_to_its_end(tinyslm, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyslm.training.run import Run

    save = Run._save

    def save_and_stop(run: Run) -> dict:
        event = save(run)
        if run.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)  # handled when step 3 is done
        return event

    settings = [*TINY, "--train.checkpoint_minutes", "0"]
    with monkeypatch.context() as patched:
        patched.setattr(Run, "_save", save_and_stop)
        assert tinyslm("train", texts, "--out", "run", *settings).code == 130
    ended = tinyslm("train", "--resume", "run", "--train.batch", "4")  # its own setting may be repeated
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Resuming after step ")
    assert tinyslm("train", texts, "--out", "undisturbed", *settings).code == 0
    weights = [Path(run, "model", "model.safetensors").read_bytes() for run in ("run", "undisturbed")]
    assert weights[0] == weights[1]


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tinyslm, finished: Path) -> None:
    run = Path(shutil.copytree(finished, "run"))
    weights = (run / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "model")
    (run / "result.json").unlink()  # the run was killed before its end
    shutil.copytree(run / "checkpoints" / "step-000005", run / "checkpoints" / "step-000006")
    (run / "checkpoints" / "step-000006" / "state.safetensors").write_bytes(b"half")
    ended = tinyslm("train", "--resume", "run")
    assert ended.code == 0
    assert "warning: Checkpoint step-000006 is damaged and not used: " in ended.err
    assert "Resuming after step 5 of 5." in ended.out
    assert (run / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="limits of file sizes are of POSIX systems")
def test_no_space_left_keeps_the_last_checkpoint(program, tinyslm, stopped: Path) -> None:
    import resource

    size = len(_read(stopped))

    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, size + 1000))

    step = _step(stopped)
    said = program("train", "--resume", "run", preexec_fn=full_disk).mistake()
    assert "Could not write run" in said
    assert "then resume: tinyslm train --resume run" in said
    assert (stopped / "checkpoints" / f"step-{step:06d}").is_dir()
    command = [COMMAND, "train", "--resume", "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        _wait(process, lambda: b'"step"' in b"".join(_read(stopped).split(b'"start"')[3:]))  # its third life
        process.send_signal(signal.SIGINT)
        assert "everything is saved" in process.communicate(timeout=60)[0]
    assert process.returncode == 130


def _read(run: Path) -> bytes:
    return (run / "metrics.jsonl").read_bytes()


def _step(run: Path) -> int:
    return json.loads(_read(run).splitlines()[-1])["step"]


def _wait(process: subprocess.Popen, until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
