"""Texts and shards in object storage: moto's server, which answers like Amazon S3."""

import gzip
import json
import socket
from pathlib import Path

import pytest
from s3_server import BUCKET, make_bucket, mistake, serve

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_file
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Tally
from tinyslm.data.object_storage import StorageError, _file_system, upload
from tinyslm.data.prepare import prepare
from tinyslm.data.reading import read_documents
from tinyslm.data.sources import find_sources
from tinyslm.tokenizer.config import TokenizerConfig


def put(folder: Path, url: str) -> None:
    """Copy a folder's files to object storage."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            upload(file, f"{url}/{file.relative_to(folder)}")


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that decides which files are read, and in which order."""
    folder = tmp_path_factory.mktemp("texts")
    rows = "".join(
        json.dumps({"text": f"This is row number {number}, which is a text of its own."}) + "\n" for number in range(60)
    )
    story = "Once upon a time there was a bear named {}, who lived in the wood with {} other bears.\n"
    for name in ("a.txt", "a/b.txt", "a.b/c.txt", "z.txt", "deep/er/one.txt", "deep/two words+ü%20.txt", "Upper.txt"):
        write(folder / name, story.format(name, len(name)) * 3)
    write(folder / "rows.jsonl", rows)
    write(folder / "packed/rows.txt.gz", gzip.compress(story.format("gz", 5).encode() * 20))
    write(folder / ".hidden", "hidden")
    write(folder / ".git/config", "hidden")
    write(folder / "drafts/one.txt", "excluded")
    write(folder / "one.log", "excluded")
    write(folder / "run/metrics.jsonl", "{}")
    write(folder / "run/checkpoints/x.txt", "of a run")
    write(folder / "model/model.safetensors", "of a model")
    write(folder / "model/README.md", "of a model")
    write(folder / "__pycache__/x.txt", "of Python")
    write(folder / "shards/manifest.json", json.dumps({"kind": "shards", "inputs": None, "files": {}}))
    write(folder / "shards/tokenizer.txt", "of shards")
    write(folder / "app/manifest.json", json.dumps({"name": "not ours"}))
    return folder


@pytest.fixture(scope="module")
def stored(environment: None, texts: Path) -> str:
    """The same in object storage."""
    put(texts, f"s3://{BUCKET}/given")
    return f"s3://{BUCKET}/given"


def found(path: str, root: str, *exclude: str) -> tuple[list[str], Tally]:
    tally = Tally()
    sources = find_sources([path], [tally], DataConfig(exclude=exclude))
    return [source.name.removeprefix(root).lstrip("/") for source in sources], tally


@pytest.mark.parametrize("exclude", [(), ("*.log", "drafts"), ("deep/er",)])
def test_the_same_files_in_the_same_order_as_a_local_folder(stored, texts, exclude) -> None:
    for pattern in ("", "/", "/*", "/*.txt", "/**/*.txt", "/deep/**", "/[ad]*/b.txt", "/z.txt"):
        ours = found(f"{stored}{pattern}", stored, *exclude)
        theirs = found(f"{texts}{pattern}", str(texts), *exclude)
        assert ours[0] == theirs[0], pattern
        assert ours[1].counts == theirs[1].counts, pattern


def test_the_same_documents_split_and_tokens(stored, texts) -> None:
    assert [one.text for one in read_documents([stored])] == [one.text for one in read_documents([str(texts)])]
    settings = {"tokenizer": TokenizerConfig(vocab_size=300), "config": DataConfig(exclude=("drafts",))}
    told: list[str] = []
    ours = prepare([stored], Path("ours"), notify=told.append, **settings)
    theirs = prepare([str(texts)], Path("theirs"), **settings)
    assert tokens_of(Path("ours")) == tokens_of(Path("theirs"))
    for key in ("splits", "split", "tokenizer", "dtype"):
        assert ours.manifest[key] == theirs.manifest[key]
    prepare([stored], Path("ours"), notify=told.append, **settings)
    assert "ours is up to date: its inputs have not changed." in told
    upload(texts / "z.txt", f"{stored}/z.txt")
    prepare([stored], Path("ours"), notify=told.append, **settings)
    assert "ours holds shards of other inputs; they are replaced." in told


def tokens_of(folder: Path) -> dict[str, str]:
    """The hashes of the files with tokens and documents."""
    return {file.name: sha256_file(file) for file in folder.iterdir() if file.suffix in (".bin", ".npy")}


def test_parquet(environment, tmp_path) -> None:
    import pyarrow
    from pyarrow import parquet

    texts = [f"The text of row {number}." for number in range(1000)]
    parquet.write_table(pyarrow.table({"number": list(range(1000)), "text": texts}), tmp_path / "a.parquet")
    upload(tmp_path / "a.parquet", f"s3://{BUCKET}/tables/a.parquet")
    assert [one.text for one in read_documents([f"s3://{BUCKET}/tables"])] == texts


def told(*paths: str) -> str:
    with pytest.raises(TinyslmError) as error:
        list(read_documents(paths))
    return error.value.problem


def test_what_is_not_there(stored) -> None:
    assert told(f"{stored}/no.txt") == f"{stored}/no.txt does not exist."
    assert told("s3://nobucket/x") == "s3://nobucket/x does not exist."
    assert told("s3://nobucket/*.txt") == "s3://nobucket/*.txt does not exist."
    assert told(f"{stored}/*.md") == f"Nothing matches {stored}/*.md."
    assert told("s3://") == "s3:// names no bucket."
    assert mistake("train", f"{stored}/no.txt", "--out", "x").startswith(f"error: {stored}/no.txt does not exist.")
    assert not Path("x").exists()


def test_who_may_not_read(monkeypatch, tmp_path) -> None:
    with serve(tmp_path / "log", INITIAL_NO_AUTH_ACTION_COUNT="0") as address:  # all requests are checked
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for path in ("x", "*"):
            assert told(f"s3://{BUCKET}/{path}") == f"Access to s3://{BUCKET}/{path} was denied: access denied."


def test_a_service_that_does_not_answer(monkeypatch) -> None:
    monkeypatch.setattr("tinyslm.data.object_storage.TIMEOUT", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert told(f"s3://{BUCKET}/x").startswith(f"Could not reach {address} for s3://{BUCKET}/x: Failed to connect")
        silent.listen()
        _file_system.cache_clear()
        assert told(f"s3://{BUCKET}/x").startswith(f"Could not reach {address} for s3://{BUCKET}/x: Operation too slow")


def test_a_service_that_goes_away_while_files_are_read(monkeypatch, texts, tmp_path) -> None:
    """Local files that cannot be read are skipped; a part of the text must not be skipped because of the network."""
    with serve(tmp_path / "log") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        make_bucket(address)
        put(texts, f"s3://{BUCKET}/given")
        read = read_documents([f"s3://{BUCKET}/given"])
        assert next(read).text
    with pytest.raises(StorageError, match=f"Could not reach {address}"):
        list(read)
