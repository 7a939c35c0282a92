"""A Ray cluster of two nodes, which are processes here: preparing text on it, and training on it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tinyslm.core.files import sha256_file
from tinyslm.data.standard_library import standard_library

TIMEOUT = 300
SHAPE = ("--model.dim", "32", "--model.heads", "2", "--model.depth", "1", "--model.context", "32")
RUN = ("--train.steps", "4", "--train.batch", "4", "--train.log_every", "1", "--train.device", "cpu")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in the shell that starts a node
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": True})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def on(cluster: Cluster) -> str:
    """What `--on` needs to reach the cluster."""
    return f"ray://{cluster.webui_url.removeprefix('http://')}"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of some megabytes, with whole and near duplicates."""
    folder = tmp_path_factory.mktemp("texts")
    files = sorted(standard_library(), key=lambda path: -Path(path).stat().st_size)[:60]
    for number, path in enumerate(files):
        content = Path(path).read_text("utf-8", "replace")
        (folder / f"{number}.py").write_text(content)
        if number % 10 == 0:
            (folder / f"{number}-again.py").write_text(content)
            (folder / f"{number}-nearly.py").write_text(content + "\n# changed\n")
    return folder


def tinyslm(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinyslm", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def shards_of(folder: Path) -> dict[str, str]:
    """The hashes of all files with tokens and documents."""
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".npy")}


def test_the_same_shards_as_one_process_though_a_node_is_killed(cluster, on, texts, tmp_path) -> None:
    settings = ("--tokenizer.vocab_size", "500")
    alone = tinyslm("data", "prepare", texts, "--out", "alone", *settings, folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    victim = cluster.add_node(num_cpus=1)

    def kill() -> None:
        while not list(tmp_path.glob(".many.*/spool/3")):
            time.sleep(0.01)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    many = tinyslm("data", "prepare", texts, "--out", "many", "--on", on, *settings, folder=tmp_path)
    assert many.returncode == 0, many.stdout + many.stderr
    killer.join(TIMEOUT)
    assert not killer.is_alive()
    assert shards_of(tmp_path / "many") == shards_of(tmp_path / "alone")
    ours, theirs = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("many", "alone"))
    assert ours["splits"] == theirs["splits"]
    assert ours["sources"] == theirs["sources"]
    assert ours["sources"][0]["dropped_documents"]["exact_duplicates"] == 6


def test_processes_train_on_the_cluster(on, texts, tmp_path) -> None:
    trained = ("train", texts, "--out", "run", *SHAPE, *RUN, "--tokenizer.vocab_size", "400")
    done = tinyslm(*trained, "--on", on, "--world", 2, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["processes"] == 2
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    again = tinyslm(*trained, "--on", on, "--world", 2, folder=tmp_path)
    assert again.returncode == 2, "the user's mistakes are those of the command"
    assert "already holds a run" in again.stdout


def test_more_processes_than_cores_are_refused(on, texts, tmp_path) -> None:
    many = tinyslm("train", texts, "--out", "more", *RUN, "--on", on, "--world", 50, folder=tmp_path)
    assert many.returncode == 2
    assert "too few for 50 processes" in many.stdout


def test_a_cluster_that_is_not_there(tmp_path) -> None:
    done = tinyslm("data", "prepare", ".", "--out", "x", "--on", "ray://127.0.0.1:9", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: No Ray cluster accepts jobs at 127.0.0.1:9")
    assert len(done.stderr.splitlines()) == 2
