"""Shards in object storage: made there, read through the cache, and trained on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from s3_server import BUCKET, free_port, mistake

from tinyslm import train
from tinyslm.core.errors import TinyslmError
from tinyslm.data.loader import Loader
from tinyslm.data.object_storage import delete, upload
from tinyslm.data.prepare import prepare
from tinyslm.data.shard_cache import HALF, data_folder, store_shards
from tinyslm.data.shards import SPLITS, Shards, given_shards
from tinyslm.data.standard_library import standard_library
from tinyslm.model.weights import weights_hash
from tinyslm.planning.train import resume
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.pipeline import Watch

SMALL = TokenizerConfig(kind="byte")
TINY = {
    "model": {"dim": 32, "heads": 2, "depth": 1, "context": 32},
    "train": {"steps": 4, "batch": 4, "device": "cpu", "score_tokens": 500, "validation_tokens": 500},
}
OPTIONS = [f"--{section}.{key}={value}" for section, values in TINY.items() for key, value in values.items()]
SLOWLY = """
import time
from tinyslm.data import shard_cache

def slowly(url, read=shard_cache.read_blocks):
    for block in read(url):
        if url.endswith(".bin"):
            yield block[:1000]
            time.sleep(100)
        yield block

shard_cache.read_blocks = slowly
"""
READ = """
import hashlib, sys
from tinyslm.data.shards import Shards, given_shards
shards = Shards.open(given_shards(sys.argv[1:]))
split = shards.split("train")
print(hashlib.sha256(split.slice(0, split.tokens).tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return sorted(standard_library(), key=lambda path: Path(path).stat().st_size)[300:330]


@pytest.fixture(scope="module")
def local(texts, tmp_path_factory) -> Shards:
    """Shards of several small files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyslm.data.shards.SHARD_TOKENS", 20_000)
        return prepare(texts, tmp_path_factory.mktemp("local") / "shards", tokenizer=SMALL)


@pytest.fixture(scope="module")
def url(environment, local) -> str:
    """The same in object storage."""
    store_shards(local.folder, f"s3://{BUCKET}/shards")
    return f"s3://{BUCKET}/shards"


@pytest.fixture(autouse=True)
def cache(environment, monkeypatch, tmp_path) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tinyslm" / "shards"


def opened(url: str) -> Shards:
    return Shards.open(given_shards([url]))


def cached(cache: Path) -> dict[str, int]:
    """The names and sizes of the files with tokens and tables."""
    return {file.name: file.stat().st_size for file in cache.glob("*/*") if file.suffix in (".bin", ".npy", HALF)}


def everything(shards: Shards) -> list[object]:
    split = shards.split("valid")
    documents = [(split.document(number).tolist(), split.document_bytes(number)) for number in range(split.documents)]
    return [*(shards.split(name).slice(0, shards.split(name).tokens).tolist() for name in SPLITS), documents]


def batches(shards: Shards) -> list[list[int]]:
    loader = Loader(shards.split("train"), context=64, batch=8, seed=3)
    return [loader.next().tolist() for _ in range(6)]


def test_only_what_is_read_is_copied(url, local, cache) -> None:
    shards = opened(url)
    assert cached(cache) == {}
    assert (shards.split("train").tokens, shards.tokenizer.sha256) == (
        local.split("train").tokens,
        local.tokenizer.sha256,
    )
    assert shards.split("train").slice(5, 10).tolist() == local.split("train").slice(5, 10).tolist()
    assert list(cached(cache)) == ["train-00000.bin"]
    assert everything(shards) == everything(local)
    assert opened(url).folder == shards.folder


def test_the_same_batches_though_the_cache_holds_two_files(url, local, cache, monkeypatch) -> None:
    assert local.manifest["splits"]["train"]["shards"] > 4
    monkeypatch.setenv("TINYSLM_CACHE_GB", "0.0001")
    shards = opened(url)
    loader = Loader(shards.split("train"), context=64, batch=8, seed=3)
    for expected in batches(local):
        assert loader.next().tolist() == expected
        assert sum(cached(cache).values()) <= 100_000
    assert len(cached(cache)) == 2
    assert shards.cache.warning.startswith(f"{url} has ")
    monkeypatch.setenv("TINYSLM_CACHE_GB", "much")
    with pytest.raises(TinyslmError, match="TINYSLM_CACHE_GB=much is not a number of gigabytes"):
        shards.split("train").slice(0, shards.split("train").tokens)


def test_processes_share_the_files(url, local, server_log) -> None:
    before = len(server_log.read_text())
    readers = [subprocess.Popen([sys.executable, "-c", READ, url], stdout=subprocess.PIPE) for _ in range(3)]
    assert len({reader.communicate(timeout=200)[0] for reader in readers}) == 1
    assert not any(reader.returncode for reader in readers)
    log = server_log.read_text()[before:]
    for number in range(local.manifest["splits"]["train"]["shards"]):
        assert log.count(f"GET /{BUCKET}/shards/train-{number:05d}.bin ") == 1


def test_a_process_is_killed_while_it_copies(url, local, cache) -> None:
    reader = subprocess.Popen([sys.executable, "-c", SLOWLY + READ, url])
    while not list(cache.glob(f"*/*{HALF}")):
        assert reader.poll() is None
        time.sleep(0.05)
    reader.send_signal(signal.SIGKILL)
    reader.wait(20)
    assert [name.endswith(f".bin{HALF}") for name in cached(cache)] == [True]
    assert everything(opened(url)) == everything(local)
    assert not list(cache.glob(f"*/*{HALF}"))


def test_files_that_are_not_what_the_manifest_lists(url, local, cache, tmp_path) -> None:
    name = "train-00001.bin"
    other = f"{url}-other"
    store_shards(local.folder, other)
    content = (local.folder / name).read_bytes()
    for wrong in (content[:-2], content[:-2] + b"\0\1"):
        (tmp_path / "wrong").write_bytes(wrong)
        upload(tmp_path / "wrong", f"{other}/{name}")
        with pytest.raises(TinyslmError, match=f"{other}/{name} is not the file that manifest.json lists"):
            everything(opened(other))
        assert not [file for file in cached(cache) if file.startswith(name) or file.endswith(HALF)]
    delete([f"{other}/{name}"])
    with pytest.raises(TinyslmError, match=f"{other}/{name} does not exist"):
        everything(opened(other))


def test_a_file_of_the_cache_that_is_damaged_is_copied_again(url, local) -> None:
    first = opened(url)
    first.split("train").slice(0, 1)
    (first.folder / "train-00000.bin").write_bytes(b"damaged")
    assert everything(opened(url)) == everything(local)


def test_a_full_disk(url, cache) -> None:
    import resource

    done = subprocess.run(
        [sys.executable, "-m", "tinyslm", "train", url, "--out", "x", *OPTIONS],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: Could not write {cache}")
    assert "Free some space" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert not [name for name in cached(cache) if name.startswith("train")]


def test_shards_are_made_in_object_storage(texts, tmp_path) -> None:
    made, told = f"s3://{BUCKET}/made", []
    first = prepare(texts, f"{made}/", tokenizer=SMALL, notify=told.append)
    local = prepare(texts, tmp_path / "made", tokenizer=SMALL)
    assert everything(first) == everything(local)
    prepare(texts, made, tokenizer=SMALL, notify=told.append)
    assert told == [f"{made} is up to date: its inputs have not changed."]
    fewer = prepare(texts[:15], made, tokenizer=SMALL, notify=told.append)
    assert f"{made} holds shards of other inputs; they are replaced." in told
    assert fewer.split("train").tokens < first.split("train").tokens
    assert everything(opened(made)) == everything(fewer)


def test_where_shards_cannot_be_made(texts, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("a text")
    upload(tmp_path / "a.txt", f"s3://{BUCKET}/occupied/a.txt")
    upload(tmp_path / "a.txt", f"s3://{BUCKET}/manifests/manifest.json")
    for place, problem in {
        f"s3://{BUCKET}/occupied": f"s3://{BUCKET}/occupied holds something else than shards.",
        f"s3://{BUCKET}/manifests": f"s3://{BUCKET}/manifests holds something else than shards.",
        "s3://nobucket/x": "s3://nobucket does not exist.",
    }.items():
        assert problem in mistake("data", "prepare", texts[0], "--out", place)


def test_training_resuming_and_other_caches(url, local, tmp_path, monkeypatch) -> None:
    train([str(local.folder)], tmp_path / "theirs", settings=TINY)
    train([url], tmp_path / "ours", settings=TINY)
    expected = weights_hash(tmp_path / "theirs" / "model")
    assert weights_hash(tmp_path / "ours" / "model") == expected

    def stop(event: dict[str, object]) -> None:
        if event["event"] == "step":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train([url], tmp_path / "stopped", settings=TINY, watch=Watch(event=stop))
    used = json.loads((tmp_path / "stopped" / "data.json").read_text())
    assert used["origin"] == url
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    resume(tmp_path / "stopped")
    assert weights_hash(tmp_path / "stopped" / "model") == expected
    assert data_folder(used["origin"]) != Path(used["folder"])


def test_two_hosts_with_caches_of_their_own(url, tmp_path) -> None:
    port = free_port()
    started = []
    for rank in range(2):
        environment = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1,
            "XDG_CACHE_HOME": tmp_path / str(rank),
        }  # fmt: skip
        command = [sys.executable, "-m", "tinyslm", "train", url, "--out", tmp_path / "run", *OPTIONS]
        environment = os.environ | {name: str(value) for name, value in environment.items()}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        assert process.communicate(timeout=250)[1] == ""
        assert process.returncode == 0
    assert all(cached(tmp_path / str(rank) / "tinyslm" / "shards") for rank in range(2))
