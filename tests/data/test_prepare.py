import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data import corpus, encoding
from tinyslm.data import prepare as prepare_module
from tinyslm.data import text as text_module
from tinyslm.data.config import DataConfig
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards
from tinyslm.data.text import Inputs, reading
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.tokenizer.training import train_as


@pytest.fixture
def folder(tmp_path):
    """Writes `{name: text}` below a folder of texts; gives the folder."""

    def write(files, name="texts"):
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return str(tmp_path / name)

    return write


def rows(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def documents(split, tokenizer):
    """The texts of a split, checked to end with the end token."""
    texts = []
    for number in range(split.documents):
        *ids, end = split.document(number).tolist()
        assert end == tokenizer.eos_id
        texts.append(tokenizer.decode(ids))
        assert split.document_bytes(number) == len(texts[-1].encode())
    return texts


def test_every_document_lands_on_one_side_as_it_was(tmp_path, folder, stories, byte_tokenizer):
    texts = [*stories(200), "ünï\r\ncödé\x07 " + stories(1, start=900)[0]]
    shards = prepare([folder({"a.jsonl": rows(texts)})], tmp_path / "out", tokenizer=byte_tokenizer)
    train, valid = (documents(shards.split(name), shards.tokenizer) for name in ("train", "valid"))
    expected = [*texts[:-1], texts[-1].replace("\r", "").replace("\x07", "")]
    assert sorted(train + valid) == sorted(expected)
    assert [text for text in expected if text in set(train)] == train  # in reading order
    assert 2 <= len(valid) <= 30
    counts = shards.manifest["splits"]
    assert shards.manifest["split"] == "hash"
    assert counts["train"]["documents"] == len(train)
    assert counts["train"]["utf8_bytes"] == sum(len(text.encode()) for text in train)
    assert counts["train"]["tokens"] == shards.split("train").tokens == counts["train"]["utf8_bytes"] + len(train)
    assert shards.manifest["dtype"] == "uint16"
    assert not (tmp_path / "out/spool").exists()


def test_the_side_depends_on_the_document_alone(tmp_path, folder, stories, byte_tokenizer):
    first = prepare([folder({"a.jsonl": rows(stories(300))})], tmp_path / "a", tokenizer=byte_tokenizer)
    more = rows(reversed(stories(500)))
    second = prepare([folder({"b.jsonl": more}, "more")], tmp_path / "b", tokenizer=byte_tokenizer)
    few = set(documents(first.split("valid"), byte_tokenizer))
    many = set(documents(second.split("valid"), byte_tokenizer))
    assert few == many & set(stories(300))


def test_shards_are_equal_whatever_the_number_of_processes(tmp_path, folder, stories, monkeypatch, byte_tokenizer):
    monkeypatch.setattr(text_module, "ONE_PROCESS", 0)
    monkeypatch.setattr(corpus, "TASK", 20_000)
    long_text = "\n\n".join(stories(2500, words=100))
    paths = [
        folder({"a.jsonl": rows(stories(500)), "0.txt": long_text, **{f"c{n}.txt": f"file {n}" for n in range(50)}})
    ]
    hashes = []
    for workers in (1, 2, 3):
        settings = DataConfig(workers=workers)
        shards = prepare(paths, tmp_path / str(workers), config=settings, tokenizer=TokenizerConfig(vocab_size=320))
        hashes.append(shards.manifest)
    assert hashes[0] == hashes[1] == hashes[2]
    assert long_text in set(documents(shards.split("train"), shards.tokenizer))


def test_a_tokenizer_is_trained_on_the_training_text_only(tmp_path, folder, stories, monkeypatch):
    monkeypatch.setattr(prepare_module, "SAMPLE", 20_000)
    seen = []

    def watched(wanted, texts):
        seen.append(list(texts))
        return train_as(wanted, seen[0])

    monkeypatch.setattr(prepare_module, "train_as", watched)
    wanted = TokenizerConfig(kind="bpe", vocab_size=320)
    shards = prepare([folder({"a.jsonl": rows(stories(300))})], tmp_path / "out", tokenizer=wanted)
    train_texts = documents(shards.split("train"), shards.tokenizer)
    assert set(seen[0]) < set(train_texts)
    assert 10_000 < sum(map(len, seen[0])) < 30_000
    assert {train_texts.index(text) // 100 for text in seen[0]} >= {0, 1, 2}
    assert shards.manifest["tokenizer"] == {"sha256": shards.tokenizer.sha256, "kind": "bpe", "vocab_size": 320}


def test_duplicates_are_dropped_and_counted(tmp_path, folder, stories, byte_tokenizer):
    texts = stories(40, words=200)
    near = texts[3].replace("Story 3", "Story three")
    path = folder({"a.jsonl": rows([*texts, texts[5], texts[5], near])})
    told = []
    shards = prepare([path], tmp_path / "out", tokenizer=byte_tokenizer, notify=told.append)
    (source,) = shards.manifest["sources"]
    assert source["dropped_documents"] == {"exact_duplicates": 2, "near_duplicates": 1}
    assert (source["documents"], source["kept_documents"]) == (43, 40)
    assert "3 documents were dropped as repetitions, 1 of them near ones." in told
    off = DataConfig(near_duplicate_threshold=0)
    exact = prepare([path], tmp_path / "exact", tokenizer=byte_tokenizer, config=off)
    assert exact.manifest["sources"][0]["dropped_documents"] == {"exact_duplicates": 2}
    everything = prepare([path], tmp_path / "all", tokenizer=byte_tokenizer, config=DataConfig(deduplicate=False))
    assert everything.manifest["sources"][0]["kept_documents"] == 43
    sides = [set(documents(everything.split(name), byte_tokenizer)) for name in ("train", "valid")]
    assert not sides[0] & sides[1]


def test_duplicates_of_long_documents(tmp_path, folder, stories, byte_tokenizer):
    long_text = "\n".join(stories(4000, words=60))
    files = {
        "a.txt": long_text,
        "b.txt": long_text,
        "c.txt": "A new line first.\n" + long_text,
        "d.txt": "other " * 999,
    }
    shards = prepare([folder(files)], tmp_path / "out", tokenizer=byte_tokenizer)
    assert shards.manifest["sources"][0]["dropped_documents"] == {"exact_duplicates": 1, "near_duplicates": 1}


def test_given_validation_text(tmp_path, folder, stories, byte_tokenizer):
    texts, held_out = stories(60, words=200), stories(5, words=200, start=500)
    near = held_out[1].replace("Story 501", "Story five hundred")
    train = folder({"a.jsonl": rows([*texts, held_out[0], near])})
    valid = folder({"v.jsonl": rows(held_out)}, "held")
    for deduplicate in (True, False):
        told = []
        config = DataConfig(valid_paths=(valid,), deduplicate=deduplicate)
        out = tmp_path / f"out-{deduplicate}"
        shards = prepare([train], out, tokenizer=byte_tokenizer, config=config, notify=told.append)
        assert documents(shards.split("valid"), byte_tokenizer) == held_out
        assert documents(shards.split("train"), byte_tokenizer) == texts
        assert shards.manifest["split"] == "given"
        assert [source["for"] for source in shards.manifest["sources"]] == ["valid", "train"]
        assert shards.manifest["sources"][1]["dropped_documents"] == {"in_validation": 2}
        assert told == ["2 training documents were dropped that occur in the validation text."]


@pytest.mark.parametrize("line_end", ["\n", " "])
def test_few_documents_are_split_at_the_tail(tmp_path, folder, stories, byte_tokenizer, line_end):
    text = line_end.join(stories(100)).replace("a", "ä")
    told = []
    shards = prepare([folder({"a.txt": text})], tmp_path / "out", tokenizer=byte_tokenizer, notify=told.append)
    (train,), (valid,) = (documents(shards.split(name), byte_tokenizer) for name in ("train", "valid"))
    assert train + valid == text
    assert len(valid.encode()) / len(text.encode()) == pytest.approx(0.05, abs=0.012)
    assert shards.manifest["split"] == "tail"
    assert "too few" in told[0]
    if line_end == "\n":
        assert train.endswith("\n")


def test_a_split_by_hash_that_comes_out_lopsided_becomes_a_tail(tmp_path, folder, stories, byte_tokenizer):
    giant = "\n".join(stories(3000))
    for start in range(0, 1000, 100):  # in some of these, the giant would be the validation split, or it nearly empty
        path = folder({"a.jsonl": rows([giant, *stories(25, start=start)])}, str(start))
        shards = prepare([path], tmp_path / f"out{start}", tokenizer=byte_tokenizer)
        share = shards.split("valid").utf8_bytes / sum(shards.split(name).utf8_bytes for name in ("train", "valid"))
        assert 0.05 / 3 <= share <= 0.05 * 3


def test_too_little_text(tmp_path, folder, stories, byte_tokenizer):
    with pytest.raises(TinyslmError, match=r"too little text: 1\.2 kB to train on; the minimum is 2 kB"):
        prepare([folder({"a.txt": "tiny " * 240})], tmp_path / "out", tokenizer=byte_tokenizer)
    assert not (tmp_path / "out").exists()
    with pytest.raises(TinyslmError, match="after 99 repeated documents were dropped"):
        prepare([folder({"a.jsonl": rows(["again " * 50] * 100)}, "b")], tmp_path / "out", tokenizer=byte_tokenizer)
    empty = folder({"v.txt": " \n"}, "empty")
    path = folder({"a.jsonl": rows(stories(50))}, "c")
    with pytest.raises(TinyslmError, match=r"No text was found in .*empty"):
        prepare([path], tmp_path / "out", tokenizer=byte_tokenizer, config=DataConfig(valid_paths=(empty,)))


def test_unchanged_inputs_are_not_read_again(tmp_path, folder, stories, byte_tokenizer):
    path = folder({"a.jsonl": rows(stories(50)), ".hidden": "x"})
    out = tmp_path / "out"

    def told(**settings):
        messages = []
        prepare([path], out, tokenizer=byte_tokenizer, config=DataConfig(**settings), notify=messages.append)
        return messages

    assert told() == []
    written = (out / "manifest.json").stat().st_mtime_ns
    assert told(workers=2) == [f"{out} is up to date: its inputs have not changed."]
    assert (out / "manifest.json").stat().st_mtime_ns == written
    assert told(near_duplicate_threshold=0) == [f"{out} holds shards of other inputs; they are replaced."]
    folder({"b.txt": "one more text"})
    assert told(near_duplicate_threshold=0) == [f"{out} holds shards of other inputs; they are replaced."]
    file = out / "train-00000.bin"
    file.write_bytes(file.read_bytes()[:-1])
    assert "train-00000.bin is damaged" in told(near_duplicate_threshold=0)[0]
    assert told(near_duplicate_threshold=0) == [f"{out} is up to date: its inputs have not changed."]


def test_what_can_be_read_only_once_is_read_every_time(tmp_path, stories, byte_tokenizer):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for told in ([], [f"{tmp_path / 'out'} holds shards of other inputs; they are replaced."]):
        messages = []
        writer = threading.Thread(target=pipe.write_text, args=["\n".join(stories(50))])
        writer.start()
        prepare([str(pipe)], tmp_path / "out", tokenizer=byte_tokenizer, notify=messages.append)
        writer.join()
        assert messages[:-1] == told


def test_shards_inside_the_folder_of_texts_are_not_text(tmp_path, folder, stories, byte_tokenizer):
    path = folder({"a.jsonl": rows(stories(50))})
    out = tmp_path / "texts/out"
    first = prepare([path], out, tokenizer=byte_tokenizer)
    told = []
    second = prepare([path], out, tokenizer=byte_tokenizer, notify=told.append)
    assert "up to date" in told[0]
    assert second.manifest == first.manifest


def test_an_out_folder_of_something_else_is_refused(tmp_path, folder, stories, byte_tokenizer):
    path = folder({"a.jsonl": rows(stories(50))})
    with pytest.raises(TinyslmError, match="something else than shards"):
        prepare([path], tmp_path / "texts", tokenizer=byte_tokenizer)
    with pytest.raises(TinyslmError, match="something else than shards"):
        prepare([path], tmp_path / "texts/a.jsonl", tokenizer=byte_tokenizer)
    (tmp_path / "empty").mkdir()
    prepare([path], tmp_path / "empty", tokenizer=byte_tokenizer)


def test_progress_is_told(tmp_path, folder, stories, byte_tokenizer):
    told = []
    prepare(
        [folder({"a.jsonl": rows(stories(50)), "b.txt": "text"})],
        tmp_path / "out",
        tokenizer=byte_tokenizer,
        progress=lambda *what: told.append(what),
    )
    for stage in ("read", "encode"):
        done = [(done, total) for name, done, total in told if name == stage]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1] > 5000


def test_text_that_was_read_gives_the_shards_of_its_paths(tmp_path, folder, stories):
    train = folder({"a.jsonl": rows(stories(300) + stories(20)), "bad.jsonl": rows(stories(40, start=300)) + "{"})
    config = DataConfig(valid_paths=(folder({"v.jsonl": rows(stories(30, start=290))}, "valid"),), workers=1)
    wanted, told, said = TokenizerConfig(vocab_size=320), [], []
    of_paths = prepare([train], tmp_path / "a", tokenizer=wanted, config=config, notify=said.append)
    with reading(Inputs.find([train], config)) as text:
        spool = text.corpus.folder
        of_text = prepare(text, tmp_path / "b", tokenizer=wanted, notify=told.append)
    assert of_text.manifest == of_paths.manifest
    assert of_text.tokenizer.sha256 == of_paths.tokenizer.sha256
    assert told == said
    assert len(told) == 3  # a broken line, repetitions, and what is in the validation text
    assert not spool.exists()


def test_no_space_left_for_reading_is_told(folder, stories):
    inputs = Inputs.find([folder({"a.jsonl": rows(stories(600))})], DataConfig(workers=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(TinyslmError, match="File too large"), reading(inputs):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


NO_SPACE = """
import resource, sys
from pathlib import Path
from tinyslm.core.errors import TinyslmError
from tinyslm.data.config import DataConfig
from tinyslm.data.prepare import prepare
from tinyslm.data import text as module
from tinyslm.tokenizer.training import train_as, train_tokenizer
module.ONE_PROCESS = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    config = DataConfig(workers=int(sys.argv[3]))
    prepare([sys.argv[1]], Path(sys.argv[2]), tokenizer=train_tokenizer([], kind="byte"), config=config)
except TinyslmError as error:
    print(error)
"""


@pytest.mark.parametrize(("workers", "limit"), [("1", 100_000), ("2", 100_000), ("1", 250_000)])
def test_no_space_left_leaves_what_was_there(tmp_path, folder, stories, byte_tokenizer, workers, limit):
    out = tmp_path / "out"
    small = prepare([folder({"a.jsonl": rows(stories(50))}, "small")], out, tokenizer=byte_tokenizer)
    path = folder({"a.jsonl": rows(stories(600))})
    arguments = [sys.executable, "-c", NO_SPACE, path, str(out), workers, str(limit)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert f"Could not write {out}: File too large." in run.stdout
    assert Shards.open(out).manifest == small.manifest
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "small", "texts"]


def test_wide_vocabularies_are_stored_in_32_bits(tmp_path, folder, stories, byte_tokenizer, monkeypatch):
    class Wide:
        """The byte tokenizer, with all ids raised by 100,000."""

        kind, sha256, vocab_size = "byte", "0" * 64, 100_512
        eos_id, table = byte_tokenizer.eos_id + 100_000, byte_tokenizer.table

        def save(self, folder):
            byte_tokenizer.save(folder)

        def encode_batch(self, texts):
            return [[token + 100_000 for token in ids] for ids in byte_tokenizer.encode_batch(texts)]

    monkeypatch.setattr(encoding, "_tokenizer", lambda *_: Wide())
    monkeypatch.setattr(prepare_module, "train_as", lambda *_: Wide())
    shards = prepare([folder({"a.jsonl": rows(stories(50))})], tmp_path / "out")
    assert shards.manifest["dtype"] == "uint32"
    tokens = shards.split("train").slice(0, 100)
    assert tokens.dtype == np.uint32
    assert tokens.min() >= 100_000


def test_only_folders_written_here_are_left_out(tmp_path: Path) -> None:
    from tinyslm.data.reading import read_documents

    for name in ("extension", "shards", "run", "model"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        (tmp_path / "texts" / name / "page.txt").write_text(f"the text in {name}")
    (tmp_path / "texts" / "extension" / "manifest.json").write_text('{"name": "an extension", "version": 3}')
    (tmp_path / "texts" / "shards" / "manifest.json").write_text('{"kind": "shards", "inputs": "x", "files": {}}')
    (tmp_path / "texts" / "run" / "metrics.jsonl").write_text("{}")
    (tmp_path / "texts" / "run" / "checkpoints").mkdir()
    (tmp_path / "texts" / "model" / "model.safetensors").write_bytes(b"")
    sources = {Path(document.source).name for document in read_documents([str(tmp_path / "texts")])}
    assert sources == {"manifest.json", "page.txt"}
    texts = {document.text for document in read_documents([str(tmp_path / "texts")])}
    assert "the text in extension" in texts
    assert not any(name in text for text in texts for name in ("in shards", "in run", "in model"))
