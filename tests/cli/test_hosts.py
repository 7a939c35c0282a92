"""Two hosts, which are network namespaces with a link between them; and the recipe for Slurm."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from the_command import TINY, Ended

from tinyslm.training.metrics import read_metrics

RECIPE = Path(__file__).parents[2] / "recipes" / "slurm" / "train.sbatch"
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
STEPS = 60
SETTINGS = [*TINY, "--tokenizer.kind=byte", f"--train.steps={STEPS}", "--train.checkpoint_minutes=60"]
SETTINGS += [f"--train.validate_every={STEPS}", f"--train.sample_every={STEPS}"]


def ip(*arguments: str) -> bool:
    """Whether the program `ip` could do something."""
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two hosts, 10.99.0.1 and 10.99.0.2, each with its end of a link, which is called as the host."""
    names = [f"tsl{os.getpid() % 100_000}{end}" for end in "ab"]
    if not shutil.which("ip") or not ip("netns", "add", names[0]):
        pytest.skip("this user cannot make network namespaces")
    try:
        made = ip("netns", "add", names[1]) and ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for number, name in enumerate(names, 1):
            made = made and ip("link", "set", name, "netns", name)
            made = made and ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", name)
            made = made and ip("-n", name, "link", "set", name, "up") and ip("-n", name, "link", "set", "lo", "up")
        if not made:
            pytest.skip("this kernel has no veth pairs")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


def test_a_link_between_two_hosts_is_cut_and_restored(hosts: list[str], texts: Path) -> None:
    running = []
    for rank, name in enumerate(hosts):
        command = ["ip", "netns", "exec", name, TORCHRUN, "--nnodes=2", f"--node-rank={rank}"]
        command += ["--master-addr=10.99.0.1", "--master-port=29500", "-m", "tinyslm", "train", str(texts)]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": name, "TINYSLM_TIMEOUT": "90"}
        running.append(
            subprocess.Popen(
                [*command, "--out", "run", *SETTINGS],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        log = Path("run", "metrics.jsonl")
        while not log.is_file() or '"step", "step": 3,' not in log.read_text():
            assert all(process.poll() is None for process in running), [process.communicate() for process in running]
            time.sleep(0.01)
        assert ip("-n", hosts[0], "link", "set", hosts[0], "down")
        time.sleep(0.5)
        steps = len(log.read_text().splitlines())
        time.sleep(1)
        waits = len(log.read_text().splitlines()) == steps
        assert ip("-n", hosts[0], "link", "set", hosts[0], "up")
        ended = [Ended(process.wait(120), *process.communicate()) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert [end.code for end in ended] == [0, 0], ended
    assert waits, "nothing is learned without the other host"
    assert ended[1].out == ""
    assert [row["step"] for row in read_metrics(log) if row["event"] == "step"] == list(range(1, STEPS + 1))


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
