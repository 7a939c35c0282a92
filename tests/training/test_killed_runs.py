"""Runs that are really killed: at the end, the weights are those of the run that was left alone, bit for bit."""

import os
import random
import re
import signal
import time
from contextlib import redirect_stdout
from pathlib import Path

import one_life
import pytest

from tinyslm.core.files import sha256_file
from tinyslm.training.metrics import read_metrics


def weights_hash(run: Path) -> str:
    return sha256_file(run / "model" / "model.safetensors")


def steps_done(run: Path) -> int:
    log = run / "metrics.jsonl"
    return (
        max(map(int, re.findall(rb'"event": "step", "step": (\d+)', log.read_bytes())), default=0)
        if log.exists()
        else 0
    )


def history(run: Path) -> list[tuple]:
    """What the run recorded, without times and rates."""
    return [
        (row["event"], row.get("step"), row.get("loss"), row.get("text"), row.get("gradient_norm"))
        for row in read_metrics(run / "metrics.jsonl")
        if row["event"] not in ("start", "checkpoint")  # a kill can come between a checkpoint and its row
    ]


def test_a_run_killed_many_times_ends_with_the_same_weights(processes, text_file, tiny_config, tmp_path: Path) -> None:
    config = tiny_config(train={"steps": 55, "validate_every": 7, "sample_every": 40}, tokenizer={"kind": "byte"})
    moments = random.Random(1)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    _spend(processes, text_file, undisturbed, config).join()
    ends = []
    for kill in range(9):
        life = _spend(processes, text_file, killed, config)
        if kill < 3:  # somewhere in the preparations
            life.join(moments.uniform(0, 0.4))
        else:  # somewhere in or after a later step; most of the time goes into saving
            wanted = 8 * (kill - 2) + moments.randint(-2, 2)
            while life.is_alive() and steps_done(killed) < wanted:
                time.sleep(0.001)
            life.join(moments.uniform(0, 0.03))
        life.kill()
        life.join()
        ends.append(life.exitcode)
    assert ends.count(-signal.SIGKILL) >= 7, ends
    last = _spend(processes, text_file, killed, config)
    last.join()
    assert last.exitcode == 0
    assert weights_hash(killed) == weights_hash(undisturbed)
    assert history(killed) == history(undisturbed)
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in undisturbed.iterdir())
    names = [sorted(p.name for p in (run / "checkpoints").iterdir()) for run in (killed, undisturbed)]
    assert names[0] == names[1]
    assert names[0][-2:] == ["step-000054", "step-000055"]


def test_ctrl_c_finishes_the_step_and_saves(processes, shards, tiny_config, tmp_path: Path) -> None:
    config = tiny_config(train={"steps": 60, "checkpoint_minutes": 60, "keep": 1})
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    one_life.live([str(shards.folder)], str(undisturbed), config.model_dump(mode="json"))
    life = processes.Process(target=_print_to, args=(tmp_path / "said", [str(shards.folder)], stopped, config))
    life.start()
    while steps_done(stopped) < 5:
        assert life.is_alive()
        time.sleep(0.001)
    os.kill(life.pid, signal.SIGINT)
    life.join()
    assert life.exitcode == 0
    rows = read_metrics(stopped / "metrics.jsonl")
    step = rows[-1]["step"]
    assert rows[-1]["event"] == "checkpoint"
    assert 5 <= step < 60
    assert (tmp_path / "said").read_text() == f"interrupted after step {step}\n"
    assert (stopped / "checkpoints" / f"step-{step:06d}").is_dir()
    one_life.live([], str(stopped), {})
    assert weights_hash(stopped) == weights_hash(undisturbed)
    assert history(stopped)[-1] == history(undisturbed)[-1]


@pytest.mark.timeout(280)
def test_a_compiled_run_that_is_killed_ends_with_the_same_weights(
    processes, shards, tiny_config, tmp_path: Path
) -> None:
    """What was compiled stays in the user's cache folder, for the next time that these tests run too."""
    config = tiny_config(model={"depth": 1}, train={"steps": 9, "compile": "on", "micro_batch": 0, "validate_every": 4})
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    first = _spend(processes, shards.folder, undisturbed, config)
    first.join()
    assert first.exitcode == 0
    life = _spend(processes, shards.folder, killed, config)
    while life.is_alive() and steps_done(killed) < 5:
        time.sleep(0.001)
    life.kill()
    life.join()
    assert life.exitcode == -signal.SIGKILL
    last = _spend(processes, shards.folder, killed, config)
    last.join()
    assert last.exitcode == 0
    assert weights_hash(killed) == weights_hash(undisturbed)
    assert history(killed) == history(undisturbed)


def _spend(processes, text: Path, out: Path, config):
    """A process that lives for the run in `out`."""
    life = processes.Process(target=one_life.live, args=([str(text)], str(out), config.model_dump(mode="json")))
    life.start()
    return life


def _print_to(file: Path, paths: list[str], out: Path, config) -> None:
    """What a process does that trains and writes into a file what it would print."""
    with file.open("w") as printed, redirect_stdout(printed):
        one_life.main(paths=paths, out=str(out), config=config.model_dump(mode="json"))
