import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_json, write_manifest
from tinyslm.core.json_files import read_json
from tinyslm.data import shards as module
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards, SplitWriter, TokenSplit


@pytest.fixture
def folder(tmp_path, stories, byte_tokenizer):
    (tmp_path / "a.txt").write_text("\n".join(stories(50)))
    prepare([str(tmp_path / "a.txt")], tmp_path / "out", tokenizer=byte_tokenizer)
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["train-00000.bin", "valid-00000.documents.npy", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_damage_is_named(folder, name, damage):
    file = folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "truncated" else content)
    with pytest.raises(TinyslmError, match=name) as error:
        Shards.open(folder)
    assert "make it again" in error.value.remedy


def test_without_verification_altered_files_open_but_truncated_ones_do_not(folder):
    file = folder / "train-00000.bin"
    content = file.read_bytes()
    file.write_bytes(b"\0\0" + content[2:])
    assert Shards.open(folder, verify=False).split("train").slice(0, 1).tolist() == [0]
    file.write_bytes(content[:-2])
    with pytest.raises(TinyslmError, match=r"train shards in .* are damaged"):
        Shards.open(folder, verify=False)


def test_what_is_no_shards_folder(tmp_path, folder):
    for other in (tmp_path / "missing", tmp_path):
        with pytest.raises(TinyslmError, match="is not a shards folder"):
            Shards.open(other)
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "version": 99})
    with pytest.raises(TinyslmError, match="format version 99"):
        Shards.open(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"splits": {}}, "splits.train is missing; splits.valid is missing"),
        ({"splits": 3}, "splits = 3"),
        ({"dtype": "object"}, "dtype = object"),
        ({"files": None}, "does not say what the files should be"),
    ],
)
def test_a_manifest_that_lacks_what_is_needed(folder, change, problem):
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), **change})
    with pytest.raises(TinyslmError, match=problem):
        Shards.open(folder)


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=12),
    st.integers(1, 9),
    st.integers(1, 5),
)
@settings(deadline=None)
def test_files_of_any_size_read_as_one_sequence(tmp_path_factory, documents, shard_tokens, at_once):
    """Documents are lists of pieces' token counts; they are cut into files of few tokens, and written in any chunks."""
    folder = tmp_path_factory.mktemp("shards")
    pieces = [(count, last == len(parts) - 1) for parts in documents for last, count in enumerate(parts)]
    pieces = [(count + last, last) for count, last in pieces]  # the end token
    total = sum(count for count, _ in pieces)
    everything = np.arange(total, dtype=np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD_TOKENS", shard_tokens)
        writer = SplitWriter(folder, "train", "uint16")
        done = 0
        for start in range(0, len(pieces), at_once):
            counts, last = (np.array(column) for column in zip(*pieces[start : start + at_once], strict=True))
            part = everything[done : done + counts.sum()]
            writer.add(part, counts, counts * 2, last)
            done += len(part)
    split = TokenSplit(folder, "train", {"dtype": "uint16", "splits": {"train": writer.finish()}})
    assert (split.tokens, split.documents, split.utf8_bytes) == (total, len(documents), total * 2)
    for start in range(total + 1):
        for length in (0, 1, 3, total):
            np.testing.assert_array_equal(split.slice(start, length), everything[start : start + length])
    found = [split.document(number) for number in range(split.documents)]
    assert [len(ids) for ids in found] == [sum(parts) + 1 for parts in documents]
    np.testing.assert_array_equal(np.concatenate(found), everything)
    assert [split.document_bytes(number) for number in range(split.documents)] == [2 * len(ids) for ids in found]
    with pytest.raises(IndexError):
        split.document(len(documents))


def test_a_manifest_of_another_program_is_not_taken_for_shards(tmp_path):
    write_manifest(tmp_path, {"kind": "model"})
    with pytest.raises(TinyslmError, match="is not a shards folder"):
        Shards.open(tmp_path)
