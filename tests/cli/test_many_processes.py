"""One command in several processes: they train as one, end together, and resume with another number of processes.

They are started with the variables of torchrun, which itself starts them in one of the tests.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file
from the_command import TINY, Ended

from tinyslm.training.metrics import read_metrics

SETTINGS = [*TINY, "--model.dropout=0.1", "--tokenizer.kind=byte", "--train.dtype=fp32", "--train.steps=24"]
SETTINGS += ["--train.batch=5", "--train.checkpoint_minutes=0", "--train.validate_every=12", "--train.sample_every=12"]
ENDLESS = [*SETTINGS, "--train.steps=100000", "--train.validate_every=50000", "--train.sample_every=50000"]
LOST = """error: Another process of this training has ended.
Resume the run, with any number of processes: tinyslm train --resume run
"""
PLUGIN = """
from dataclasses import replace
from tinyslm.model.families import FAMILIES
from tinyslm.training.stages import STAGES
FAMILIES.add("mine", replace(FAMILIES["llama"], name="mine", model_type="mine", architecture="MineForCausalLM"))
STAGES.add("again", STAGES["pretrain"])
"""


@pytest.fixture
def started(fork_server):
    """Starts a command in several processes: `started(2, "train", ...)`.

    ranks: those of them that are started. folders: where each is. The rest is added to their environment.
    """
    processes: list[subprocess.Popen[str]] = []

    def start(
        size: int, *arguments: object, ranks: Iterable[int] | None = None, folders: Sequence[str] = (), **given: str
    ) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **given}
        begun = [
            subprocess.Popen(
                [fork_server.path / "tinyslm", *map(str, arguments)],
                env=os.environ | world | {"RANK": str(rank)},
                cwd=folders[rank] if folders else None,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in (range(size) if ranks is None else ranks)
        ]
        processes.extend(begun)
        return begun

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ends(processes: Sequence[subprocess.Popen[str]]) -> list[Ended]:
    """How they end."""
    written = [process.communicate(timeout=100) for process in processes]
    return [Ended(process.returncode, *said) for process, said in zip(processes, written, strict=True)]


def wait_for_step(run: Path, step: int, processes: Sequence[subprocess.Popen[str]]) -> None:
    log = run / "metrics.jsonl"
    while not log.is_file() or f'"step", "step": {step},' not in log.read_text():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


def weights(run: str) -> dict:
    return load_file(Path(run, "model", "model.safetensors"))


def losses(run: str) -> list[float]:
    return [row["loss"] for row in read_metrics(Path(run, "metrics.jsonl")) if row["event"] == "step"]


def test_two_processes_print_and_end_as_one(started, tinyslm, texts: Path) -> None:
    plain = ["--model.dropout=0", "--train.dtype=fp32"]
    first, second = ends(started(2, "train", texts, "--out", "two", *SETTINGS, *plain))
    assert (first.code, second) == (0, Ended(0, "", ""))
    assert "error" not in first.err
    alone = tinyslm("train", texts, "--out", "one", *SETTINGS, *plain)
    assert first.out.splitlines()[-3:-1] == [line.replace("one", "two") for line in alone.out.splitlines()[-3:-1]]
    assert losses("two") == pytest.approx(losses("one"), rel=1e-3)
    results = [json.loads(Path(run, "result.json").read_text()) for run in ("one", "two")]
    assert results[0]["bits_per_byte"] == pytest.approx(results[1]["bits_per_byte"], rel=1e-3)


def test_a_run_on_four_processes_resumes_on_two(started, tinyslm, texts: Path) -> None:
    """It reads the batches that it would have read."""
    exact = [*SETTINGS, "--model.dropout=0", "--train.steps=12"]
    assert tinyslm("train", texts, "--out", "whole", *exact).code == 0
    running = started(4, "train", texts, "--out", "run", *exact)
    wait_for_step(Path("run"), 2, running)
    running[3].send_signal(signal.SIGTERM)
    assert [end.code for end in ends(running)] == [130] * 4
    assert len(losses("run")) < 12
    first, second = ends(started(2, "train", "--resume", "run"))
    assert (first.code, second, "processes: 4 -> 2" in first.err) == (0, Ended(0, "", ""), True)
    assert (len(losses("run")), losses("run")) == (12, pytest.approx(losses("whole"), rel=1e-3))


def test_an_interrupted_run_resumes_with_any_number_of_processes(started, tinyslm, texts: Path) -> None:
    """On as many processes to the same bits; on others it reads the same batches. A signal for one stops all."""
    assert [end.code for end in ends(started(2, "train", texts, "--out", "whole", *SETTINGS))] == [0, 0]
    running = started(2, "train", texts, "--out", "run", *SETTINGS)
    wait_for_step(Path("run"), 2, running)
    running[1].send_signal(signal.SIGINT)
    first, second = ends(running)
    assert (first.code, second) == (130, Ended(130, "", ""))
    assert "everything is saved. Resume with:" in first.out
    shutil.copytree("run", "other")
    assert [end.code for end in ends(started(2, "train", "--resume", "run"))] == [0, 0]
    assert losses("run") == losses("whole")
    assert all(tensor.equal(weights("whole")[name]) for name, tensor in weights("run").items())
    resumed = tinyslm("train", "--resume", "other")
    assert (resumed.code, "processes: 2 -> 1" in resumed.err) == (0, True)
    assert losses("other") == pytest.approx(losses("whole"), abs=0.2), "only dropout differs"


@pytest.mark.parametrize(("killed", "size"), [(0, 2), (1, 3)])
def test_a_killed_process_ends_the_others(started, texts: Path, killed: int, size: int) -> None:
    running = started(size, "train", texts, "--out", "run", *ENDLESS)
    wait_for_step(Path("run"), 2, running)
    running[killed].kill()
    begun = time.monotonic()
    ended = ends(running)
    assert time.monotonic() - begun < 30
    others = [end for rank, end in enumerate(ended) if rank != killed]
    assert {end.code for end in others} == {2}
    assert "".join(end.err.partition("error: ")[1] + end.err.partition("error: ")[2] for end in others) == LOST


def test_a_full_disk_ends_all(started, texts: Path) -> None:
    place = Path("disk").absolute()
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a file system")
    try:
        first, second = ends(started(2, "train", texts, "--out", place / "run", *ENDLESS, "--train.keep=1000"))
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    assert first.code == 2
    assert "No space left on device" in first.err
    assert first.err.endswith(f"then resume: tinyslm train --resume {place}/run\n")
    assert second == Ended(2, "", "")


def test_mistakes_and_differences_are_said_once(started, texts: Path, finished: Path) -> None:
    first, second = ends(started(2, "train", texts, "--out", "run", "--model.dims", "3"))
    assert 'Did you mean "model.dim"?' in first.mistake()
    assert second == Ended(2, "", "")
    first, second = ends(started(6, "train", texts, "--out", "run", *SETTINGS))[:2]
    assert "5 sequences in an update cannot be shared by 6 processes. Start at most 5 processes" in first.mistake()
    for folder, data in (("a", finished / "data"), ("b", finished / "data")):
        shutil.copytree(data, Path(folder, "shards"))
    manifest = Path("b", "shards", "manifest.json")
    manifest.write_text(manifest.read_text() + " ")
    both = started(2, "train", "shards", "--out", "run", *SETTINGS, folders=["a", "b"])
    first, second = ends(both)
    assert "error: Process 1 on " in first.err
    assert "differs from process 0" in first.err
    assert "in the hash of the data" in first.err
    assert [first.code, second] == [2, Ended(2, "", "")]
    assert not Path("a", "run", "config.json").exists()


def test_a_run_with_divided_weights_and_a_given_time(started, tinyslm, texts: Path) -> None:
    """It measures updates that the processes make together, begins with the weights that it had, and resumes."""
    usual = [one for one in SETTINGS if not one.startswith(("--train.steps", "--train.validate", "--train.sample"))]
    timed = [*usual, "--train.snapshots=1"]
    running = started(2, "train", texts, "--out", "run", *timed, "--train.minutes=0.3", "--train.shard=full")
    wait_for_step(Path("run"), 2, running)
    running[1].send_signal(signal.SIGINT)
    assert [end.code for end in ends(running)] == [130, 130]
    first, second = ends(started(2, "train", "--resume", "run"))
    assert (first.code, second) == (0, Ended(0, "", "")), first
    begun = read_metrics(Path("run", "metrics.jsonl"))[0]
    assert begun["sharding"] == {"on": True, "reason": "the settings say so"}
    assert begun["compiling"]["eager"] > 0
    assert tinyslm("train", texts, "--out", "one", *timed, "--train.steps=1").code == 0
    new = [load_file(Path(run, "snapshots", "step-000000", "model.safetensors")) for run in ("run", "one")]
    assert all(tensor.equal(new[1][name]) for name, tensor in new[0].items()), "measuring changes no weights"


def test_a_plugin_is_loaded_in_all_processes(started, finished: Path) -> None:
    for folder in ("a", "b"):
        shutil.copytree(finished / "data", Path(folder, "shards"))
        Path(folder, "mine.py").write_text(PLUGIN)
    settings = [*SETTINGS, "--plugin", "mine.py", "--model.family=mine", "--train.stage=again"]
    first, second = ends(started(2, "train", "shards", "--out", "run", *settings, folders=["a", "b"]))
    assert (first.code, second) == (0, Ended(0, "", "")), first
    resumed = started(2, "train", "--resume", "run", "--plugin", "mine.py", folders=["a", "b"])
    assert [end.code for end in ends(resumed)] == [0, 0]
    Path("b", "mine.py").write_text(f"{PLUGIN}# changed\n")
    first, second = ends(started(2, "train", "shards", "--out", "other", *settings, folders=["a", "b"]))
    assert "differs from process 0" in first.err
    assert "in the plugin mine.py: " in first.err
    assert [first.code, second] == [2, Ended(2, "", "")]
    Path("b", "mine.py").unlink()
    first, second = ends(started(2, "train", "shards", "--out", "other", *settings, folders=["a", "b"]))
    assert ": mine.py is not a Python file." in first.err
    assert [first.code, second] == [2, Ended(2, "", "")]


def test_processes_that_do_not_meet_say_so(started) -> None:
    (alone,) = ends(started(2, "train", "text.txt", ranks=[0], TINYSLM_TIMEOUT="1"))
    assert "Process 0 of 2 on " in alone.mistake()
    assert "did not meet the others at 127.0.0.1:" in alone.err
    (alone,) = ends(started(2, "train", "text.txt", ranks=[1], TINYSLM_TIMEOUT="soon"))
    assert "TINYSLM_TIMEOUT=soon is not a number of seconds." in alone.mistake()
