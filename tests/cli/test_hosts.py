"""Two and three hosts, which are network namespaces with a switch between them; and the recipe for Slurm."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from the_command import TINY, Ended

from tinyslm.training.metrics import read_metrics

RECIPE = Path(__file__).parents[2] / "recipes" / "slurm" / "train.sbatch"
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
STEPS = 60
SETTINGS = [*TINY, "--tokenizer.kind=byte", f"--train.steps={STEPS}", "--train.checkpoint_minutes=60"]
SETTINGS += [f"--train.validate_every={STEPS}", f"--train.sample_every={STEPS}"]


SLOW = {
    "token bucket filter": ["tbf", "rate", "20mbit", "burst", "32kbit", "latency", "400ms"],
    "netem": ["netem", "delay", "5ms", "2ms", "loss", "0.1%"],
}
"""Ways in which a link can be slow, for `tc`."""


def ip(*arguments: str) -> bool:
    """Whether the program `ip` could do something."""
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


def slowed(host: str, *way: str) -> bool:
    """Whether a host's link could be made slow."""
    command = ["tc", "-n", host, "qdisc", "add", "dev", host, "root", *way]
    return bool(shutil.which("tc")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def sent_slowly(host: str) -> int:
    """The bytes that a host has sent over its slow link."""
    command = ["tc", "-n", host, "-s", "-j", "qdisc", "show", "dev", host]
    (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return int(found["bytes"])


@pytest.fixture
def hosts() -> Iterator[Callable[[int], list[str]]]:
    """Makes hosts on one network: 10.99.0.1, 10.99.0.2, ...; each is called as its end of the link to the switch."""
    prefix = f"tsl{os.getpid() % 100_000}"
    switch = f"{prefix}s"
    made = [switch]

    def add(number: int) -> str:
        name = f"{prefix}{'abcdefgh'[number]}"
        made.append(name)
        done = ip("netns", "add", name)
        done = done and ip("-n", switch, "link", "add", name, "type", "veth", "peer", "name", name, "netns", name)
        done = done and ip("-n", switch, "link", "set", name, "up", "master", "bridge")
        done = done and ip("-n", name, "addr", "add", f"10.99.0.{number + 1}/24", "dev", name)
        if not (done and ip("-n", name, "link", "set", name, "up") and ip("-n", name, "link", "set", "lo", "up")):
            pytest.skip("this kernel has no veth pairs")
        return name

    def make(count: int) -> list[str]:
        if not shutil.which("ip") or not ip("netns", "add", switch):
            pytest.skip("this user cannot make network namespaces")
        if not (
            ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            and ip("-n", switch, "link", "set", "bridge", "up")
        ):
            pytest.skip("this kernel has no bridges")
        return [add(number) for number in range(count)]

    yield make
    for name in made:
        ip("netns", "del", name)


def started(hosts: list[str], *arguments: str) -> list[subprocess.Popen[str]]:
    """The training of a model on some hosts, by a torchrun on each of them."""
    begun = []
    for rank, name in enumerate(hosts):
        command = ["ip", "netns", "exec", name, TORCHRUN, f"--nnodes={len(hosts)}", f"--node-rank={rank}"]
        command += ["--master-addr=10.99.0.1", "--master-port=29500", "-m", "tinyslm", "train", *arguments]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": name, "TINYSLM_TIMEOUT": "90"}
        begun.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return begun


def ends(processes: list[subprocess.Popen[str]]) -> list[Ended]:
    return [Ended(process.wait(150), *process.communicate()) for process in processes]


def stopped(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_step(step: int, log: Path, processes: list[subprocess.Popen[str]]) -> None:
    while not log.is_file() or f'"step", "step": {step},' not in log.read_text():
        assert all(process.poll() is None for process in processes), [one.communicate() for one in processes]
        time.sleep(0.01)


def test_a_link_between_two_hosts_is_cut_and_restored(hosts: Callable[[int], list[str]], texts: Path) -> None:
    names = hosts(2)
    running = started(names, str(texts), "--out", "run", *SETTINGS)
    try:
        log = Path("run", "metrics.jsonl")
        wait_for_step(3, log, running)
        assert cut(names[0], log), "nothing is learned without the other host"
        ended = ends(running)
    finally:
        stopped(running)
    assert [end.code for end in ended] == [0, 0], ended
    assert ended[1].out == ""
    assert [row["step"] for row in read_metrics(log) if row["event"] == "step"] == list(range(1, STEPS + 1))


def cut(host: str, log: Path) -> bool:
    """Cut a host's link for a while, and restore it. Returns whether the training waited."""
    assert ip("-n", host, "link", "set", host, "down")
    time.sleep(0.5)
    steps = len(log.read_text().splitlines())
    time.sleep(1)
    waited = len(log.read_text().splitlines()) == steps
    assert ip("-n", host, "link", "set", host, "up")
    return waited


@pytest.mark.parametrize("slow", SLOW)
def test_three_hosts_of_which_one_has_a_slow_link(
    hosts: Callable[[int], list[str]], tinyslm: Callable[..., Ended], texts: Path, slow: str
) -> None:
    """They train as one process does. The slow link is cut and restored too."""
    names, exact = hosts(3), ["--model.dropout=0", "--train.dtype=fp32"]
    if not slowed(names[2], *SLOW[slow]):
        pytest.skip(f"this kernel has no {slow}")
    running = started(names, str(texts), "--out", "run", *SETTINGS, *exact)
    try:
        log = Path("run", "metrics.jsonl")
        wait_for_step(3, log, running)
        assert cut(names[2], log)
        ended = ends(running)
        sent = sent_slowly(names[2])
    finally:
        stopped(running)
    assert [end.code for end in ended] == [0, 0, 0], ended
    assert sent > STEPS * 4 * json.loads(Path("run", "result.json").read_text())["parameters"]
    assert [end.out for end in ended[1:]] == ["", ""]
    assert tinyslm("train", texts, "--out", "one", *SETTINGS, *exact).code == 0
    several, one = (
        [row["loss"] for row in read_metrics(Path(run, "metrics.jsonl")) if row["event"] == "step"]
        for run in ("run", "one")
    )
    assert (len(several), several[:10]) == (STEPS, pytest.approx(one[:10], rel=1e-4))


def test_the_recipe_for_slurm_starts_or_resumes(tmp_path: Path) -> None:
    """What it would have each host run; and, where Slurm's programs are there, that they know its directives."""
    for name, program in {
        "scontrol": "echo first; echo second",
        "srun": 'printf "%s " "$OMP_NUM_THREADS" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_NODELIST": "x", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    environment = {**job, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PROCESSES_PER_HOST": "2"}
    call = ["bash", str(RECIPE), "shards", str(tmp_path / "run"), "--train.steps", "9"]

    def what() -> str:
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout

    said = what()
    assert said.startswith("4 --kill-on-bad-exit=1 torchrun --nnodes 2 --nproc-per-node 2 ")
    assert "--rdzv-endpoint first:29500 " in said
    assert said.endswith(f"-m tinyslm train shards --out {tmp_path}/run --train.steps 9 ")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert what().endswith(f"-m tinyslm train --resume {tmp_path}/run ")
    directives = re.findall(r"^#SBATCH (--[a-z-]+)(?:=\S+)?$", RECIPE.read_text(), re.MULTILINE)
    assert len(directives) == RECIPE.read_text().count("#SBATCH")
    if not shutil.which("sbatch"):
        return
    settings = tmp_path / "slurm.conf"
    settings.write_text(
        "ClusterName=c\nSlurmctldHost=localhost\nNodeName=localhost\nPartitionName=p Nodes=ALL Default=YES\n"
    )
    try:
        tried = subprocess.run(
            ["sbatch", "--test-only", str(RECIPE)],
            env=os.environ | {"SLURM_CONF": str(settings)},
            capture_output=True,
            text=True,
            check=False,
            timeout=3,
        )
    except subprocess.TimeoutExpired:
        return  # it looks for a controller: what it was asked for is in order
    assert "unrecognized option" not in tried.stderr
