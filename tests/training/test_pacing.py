"""Runs with a given time: their number of steps is corrected on the way, and a resumed one is still the same run."""

import json
import shutil
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import one_life
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_file
from tinyslm.planning.train import resume
from tinyslm.training import run as run_module
from tinyslm.training.checkpoint import list_checkpoints
from tinyslm.training.deadline import Decisions, Rates, RunCosts
from tinyslm.training.metrics import planned_steps, read_metrics
from tinyslm.training.pipeline import finish, start
from tinyslm.training.report import write_report
from tinyslm.training.run import Run

UPDATES_ALONE = RunCosts(update=0.25, validation=0, weights=0, sample=0, checkpoint=0, scoring=0, report=0)
SLOW_AFTER = 16


@pytest.fixture
def begun(tmp_path: Path, shards, tiny_config) -> Path:
    """The folder of a run that may take ten seconds, and has not made a step."""
    config = tiny_config(train={"steps": 0, "minutes": 10 / 60, "checkpoint_minutes": 0})
    return start([shards.folder], tmp_path / "begun", config=config).folder.path


@pytest.fixture
def planned(begun: Path) -> Path:
    """The same, planned for forty updates of a quarter of a second, which cost all of the time."""
    Decisions(40, 0.0, UPDATES_ALONE).write(begun / "deadline.json")
    return begun


def copy(run: Path, name: str) -> Path:
    return Path(shutil.copytree(run, run.with_name(name)))


def live_and_be_killed(processes, target, arguments: tuple, run: Path, at: int) -> bool:
    """Let a process work on a run until it is killed after a step; whether it was, or ended before."""
    life = processes.Process(target=target, args=arguments)
    life.start()
    while life.is_alive() and steps_done(run) < at:
        time.sleep(0.001)
    life.kill()
    life.join()
    return life.exitcode == -signal.SIGKILL


def live_on(processes, target, *arguments) -> None:
    """Let a process work on a run to its end: one like those that were killed, not this one, which did other things."""
    life = processes.Process(target=target, args=arguments)
    life.start()
    life.join()
    assert life.exitcode == 0


def steps_done(run: Path) -> int:
    return (
        max((row["step"] for row in read_metrics(run / "metrics.jsonl") if row["event"] == "step"), default=0)
        if (run / "metrics.jsonl").exists()
        else 0
    )


def paces(run: Path) -> list[tuple]:
    rows = [row for row in read_metrics(run / "metrics.jsonl") if row["event"] == "pace"]
    return [(row["step"], row["before"], row["steps"], row["seconds"]) for row in rows]


def weights_hash(run: Path) -> str:
    return sha256_file(run / "model" / "model.safetensors")


def test_a_machine_that_becomes_slower_makes_fewer_steps(planned: Path) -> None:
    one_life.live_by_updates(str(planned), SLOW_AFTER)
    rows = read_metrics(planned / "metrics.jsonl")
    steps = [row for row in rows if row["event"] == "step"]
    assert (rows[0]["steps"], steps[-1]["step"]) == (40, planned_steps(rows))
    assert steps[-1]["seconds"] == pytest.approx(10, abs=0.5)
    assert 26 <= steps[-1]["step"] <= 30  # 16 in the first four seconds, twelve in the other six
    # The first correction is at 2 % of 40 steps: after the first step. As long as all goes to plan, nothing changes.
    assert paces(planned)[0] == (1, 40, 40, 0.25)
    assert all(before == after for step, before, after, _ in paces(planned) if step <= SLOW_AFTER)
    assert any(before > after for step, before, after, _ in paces(planned) if step > SLOW_AFTER)
    # The learning rate still rises to its peak and falls to nearly nothing, without jumps.
    rates = [row["learning_rate"] for row in steps]
    assert rates.index(max(rates)) < len(rates) / 2
    assert rates[-1] < 0.1 * max(rates)
    assert all(after < before for before, after in pairwise(rates[16:]))
    assert len([row for row in rows if row["event"] == "validation"]) == 10
    assert len([row for row in rows if row["event"] == "sample"]) == 5
    page = write_report(planned).read_text()
    assert "set anew on the way" in page
    assert f"{steps[-1]['step']}" in page


def test_killed_and_resumed_it_is_the_run_that_was_left_alone(processes, planned: Path) -> None:
    undisturbed, killed = copy(planned, "undisturbed"), copy(planned, "killed")
    live_on(processes, one_life.live_by_updates, str(undisturbed), SLOW_AFTER)
    arguments = (str(killed), SLOW_AFTER)
    ends = [live_and_be_killed(processes, one_life.live_by_updates, arguments, killed, at) for at in (1, 17, 24)]
    assert all(ends), ends
    live_on(processes, one_life.live_by_updates, *arguments)
    assert weights_hash(killed) == weights_hash(undisturbed)
    assert paces(killed) == paces(undisturbed)
    assert Decisions.read(killed / "deadline.json") == Decisions.read(undisturbed / "deadline.json")


def test_a_decision_that_was_taken_is_not_taken_again(processes, begun: Path) -> None:
    """On a real clock, with the checkpoints of some steps lost: the same corrections give the same run."""
    pace = Decisions.read(begun / "deadline.json")
    replace(pace, steps=60, seconds=0.0).write(begun / "deadline.json")  # as if preparing had cost nothing
    repeated = copy(begun, "repeated")
    for at in (4, 12):
        live_and_be_killed(processes, resume, (str(begun),), begun, at)
        decided = Decisions.read(begun / "deadline.json")
        for checkpoint in list_checkpoints(begun / "checkpoints")[-1:]:
            shutil.rmtree(checkpoint)
    live_on(processes, resume, str(begun))
    ended = Decisions.read(begun / "deadline.json")
    assert ended.corrections[: len(decided.corrections)] == decided.corrections
    assert len(ended.corrections) >= 3
    shutil.copy(begun / "deadline.json", repeated / "deadline.json")
    live_on(processes, resume, str(repeated))
    last = ended.corrections[-1].step  # after it, the clock may ask for another one
    assert losses(repeated, last) == losses(begun, last)


def losses(run: Path, last: int) -> dict[int, float]:
    """The loss of each update up to this one."""
    rows = read_metrics(run / "metrics.jsonl")
    return {row["step"]: row["loss"] for row in rows if row["event"] == "step" and row["step"] <= last}


def test_a_run_without_its_plan_is_refused(begun: Path) -> None:
    (begun / "deadline.json").unlink()
    with pytest.raises(TinyslmError, match=r"deadline\.json does not exist"):
        resume(begun)


def test_given_steps_are_never_corrected(tmp_path: Path, shards, tiny_config) -> None:
    clock = iter(range(10**6))
    config = tiny_config(train={"steps": 30, "log_every": 30, "checkpoint_minutes": 60})
    run = Run.start(tmp_path / "run", shards.folder, config, clock=lambda: float(next(clock)) ** 2)
    finish(run)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[0]["steps"] == run.steps == run.progress.step == 30
    assert not paces(tmp_path / "run")
    assert not (tmp_path / "run" / "deadline.json").exists()


def test_preparing_counts(tmp_path: Path, shards, tiny_config) -> None:
    config = tiny_config(train={"steps": 0, "minutes": 1})
    short = start([shards.folder], tmp_path / "short", config=config, spent=59.0)
    long = start([shards.folder], tmp_path / "long", config=config)
    assert short.progress.seconds >= 59
    assert long.progress.seconds < 59
    assert short.steps < long.steps / 10
    told: list[dict] = []
    config = tiny_config(train={"steps": 0, "minutes": 1, "sinks": []})
    finish(start([shards.folder], tmp_path / "late", config=config, spent=100.0), told.append)
    (warning,) = [event for event in told if event["event"] == "warning"]
    assert "s of 60 s" in warning["text"]
    assert json.loads((tmp_path / "late" / "result.json").read_text())["training_tokens"] == 64


def test_a_run_by_a_plan_times_nothing_itself(
    tmp_path: Path, shards, tiny_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan has measured the machine; what it says is corrected while the run goes on."""
    monkeypatch.setattr(run_module, "measure", lambda *_: pytest.fail("measured again"))
    config = tiny_config(train={"steps": 0, "minutes": 5, "validation_tokens": 100, "score_tokens": 200})
    rates = Rates(update=2.5, validation=1e-2, scoring=2e-2)
    run = start([shards.folder], tmp_path / "run", config, rates=rates)
    assert run.progress.costs.update == 2.5
    assert run.progress.costs.validation == pytest.approx(1)
    assert 90 < run.steps < 120


def test_validations_and_the_final_score_fit_the_time(tmp_path: Path, shards, tiny_config) -> None:
    short = start([shards.folder], tmp_path / "run", config=tiny_config(train={"steps": 0, "minutes": 1e-4}))
    assert (short.config.train.validation_tokens, short.score_tokens) == (8192, 32_768)  # at least so much
    wanted = {"validation_tokens": 100, "score_tokens": 200}
    given = start([shards.folder], tmp_path / "given", config=tiny_config(train={"steps": 0, "minutes": 1, **wanted}))
    assert (given.config.train.validation_tokens, given.score_tokens) == (100, 200)
    assert start([shards.folder], tmp_path / "steps", config=tiny_config()).score_tokens == 1_000_000
