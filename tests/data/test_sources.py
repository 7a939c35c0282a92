"""Which files of folders are read: links, patterns, and files that cannot be."""

import gzip

import pytest
import zstandard

from tinyslm.core.errors import TinyslmError
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import Tally
from tinyslm.data.object_storage import StorageError
from tinyslm.data.reading import read_documents
from tinyslm.data.shards import given_shards
from tinyslm.data.sources import find_sources
from tinyslm.data.text import Inputs, reading


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def found(*paths, exclude=()):
    config = DataConfig(exclude=exclude)
    return [source.name for source in find_sources([str(path) for path in paths], [Tally() for _ in paths], config)]


def texts(*paths, told=None, **settings):
    notify = told.append if told is not None else lambda _: None
    read = read_documents([str(path) for path in paths], DataConfig(**settings), notify=notify)
    return [document.text for document in read]


def names(*paths, **settings):
    return sorted(name.rsplit("/", 1)[1] for name in found(*paths, **settings))


def test_links_to_folders_are_followed_once(tmp_path):
    write(tmp_path / "elsewhere/far.txt", "far")
    write(tmp_path / "elsewhere/deep/deeper.txt", "deeper")
    write(tmp_path / "given/near.txt", "near")
    (tmp_path / "given/one").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "given/two").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "given/part").symlink_to("../elsewhere/deep")
    (tmp_path / "elsewhere/deep/up").symlink_to("..")
    (tmp_path / "given/self").symlink_to(".")
    assert names(tmp_path / "given") == ["deeper.txt", "far.txt", "near.txt"]
    assert found(tmp_path / "given", tmp_path / "elsewhere") == [
        str(tmp_path / name) for name in ("given/near.txt", "elsewhere/far.txt", "elsewhere/deep/deeper.txt")
    ]
    assert names(tmp_path) == ["deeper.txt", "far.txt", "near.txt"]
    assert names(tmp_path / "given/one") == ["deeper.txt", "far.txt"]


def test_a_link_to_a_folder_above_reads_nothing_twice(tmp_path):
    write(tmp_path / "all/given/near.txt", "near")
    write(tmp_path / "all/sibling.txt", "sibling")
    (tmp_path / "all/given/up").symlink_to("..")
    assert names(tmp_path / "all/given") == ["near.txt", "sibling.txt"]


def test_links_to_files_are_read_and_broken_ones_are_named(tmp_path):
    write(tmp_path / "store/a.txt", "a")
    write(tmp_path / "given/b.txt", "b")
    (tmp_path / "given/link.txt").symlink_to(tmp_path / "store/a.txt")
    (tmp_path / "given/gone.txt").symlink_to(tmp_path / "store/gone.txt")
    told = []
    assert texts(tmp_path / "given", told=told) == ["b", "a"]
    assert told == [f"1 link leads to nothing: {tmp_path / 'given/gone.txt'}."]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.log"], ["a.txt", "b.txt", "draft.txt", "x.txt"]),
        (["*.txt"], ["a.log", "y.log"]),
        (["drafts"], ["a.log", "a.txt", "b.txt"]),
        (["drafts/"], ["a.log", "a.txt", "b.txt"]),
        (["drafts/*.txt"], ["a.log", "a.txt", "b.txt", "y.log"]),
        (["**/[ab].txt", "y.*"], ["a.log", "draft.txt", "x.txt"]),
        (["sub/*"], ["a.log", "a.txt"]),
    ],
)
def test_what_is_excluded(tmp_path, patterns, expected):
    for name in ("a.txt", "a.log", "sub/b.txt", "sub/drafts/draft.txt", "sub/drafts/x.txt", "sub/drafts/y.log"):
        write(tmp_path / name, name)
    assert names(tmp_path, exclude=patterns) == expected
    assert names(f"{tmp_path}/**/*", exclude=patterns) == expected


def test_patterns_that_exclude_all_or_nothing_are_reported(tmp_path):
    write(tmp_path / "a.txt", "text")
    with pytest.raises(TinyslmError, match=r"has no file to read \(skipped: 1 excluded file or folder\)"):
        found(tmp_path, exclude=["*.txt"])
    told = []
    assert texts(tmp_path, told=told, exclude=["*.md"]) == ["text"]
    assert told == ["1 pattern of --exclude matches nothing: *.md."]


@pytest.mark.parametrize(
    "content", ['{"name": "app", "icons": []}', "[1, 2]", "not json", '{"files": {"a": 1}}', "{}" * 9]
)
def test_a_manifest_of_something_else_is_an_ordinary_file(tmp_path, content):
    write(tmp_path / "app/manifest.json", content)
    write(tmp_path / "app/page.txt", "text")
    assert names(tmp_path) == ["manifest.json", "page.txt"]


GOOD = {"good.txt": "good text", "good.jsonl": '{"text": "good row"}\n'}
WHOLE = b"".join(b"line %d\n" % number for number in range(300_000))
BAD = {
    "empty.txt": (b"", "1 file is empty"),
    "labels.csv": (b"id,label\n1,x\n", "has no column"),
    "broken.txt.gz": (b"not compressed", "1 file could not be read and was skipped"),
    "cut.txt.gz": (gzip.compress(WHOLE)[:-100_000], "is damaged; only what precedes the damage was read"),
    "cut.txt.zst": (zstandard.compress(WHOLE)[:-10], "is damaged; only what precedes the damage was read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_skipped_and_named_in_a_folder_of_good_ones(tmp_path, name):
    content, message = BAD[name]
    for good, text in GOOD.items():
        write(tmp_path / good, text)
    told = []
    write(tmp_path / "in" / name, content)
    kept = texts(tmp_path, told=told)
    assert {"good text", "good row"} <= set(kept)
    (warning,) = told
    assert message in warning
    assert name in warning
    with pytest.raises(TinyslmError, match=r"in|No text"):
        texts(tmp_path / "in")
    if "empty" not in name:  # an empty file is counted even if it was named: a shell's `*` names it too
        with pytest.raises(TinyslmError, match=name):
            texts(tmp_path / "in" / name, tmp_path / "good.txt")
        with pytest.raises(TinyslmError, match=name):
            texts(tmp_path, strict=True)


def test_a_document_that_is_cut_by_damage_does_not_run_into_the_next(tmp_path, stories):
    write(tmp_path / "a.txt.gz", gzip.compress(WHOLE)[:-100_000])
    write(tmp_path / "b.txt", "\n".join(stories(20)))
    with reading(Inputs.find([str(tmp_path)], DataConfig(workers=1))) as text:
        assert len(text.corpus.document_bytes) == 2
        assert text.corpus.document_bytes[1] == (tmp_path / "b.txt").stat().st_size


def test_object_storage_that_cannot_be_reached(tmp_path, monkeypatch):
    """What a server answers is in tests/peers/storage."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for read in (texts, lambda path: given_shards([path])):
        with pytest.raises(
            StorageError, match=r"Could not reach http://127\.0\.0\.1:9 for s3://bucket/.*: Failed to con"
        ):
            read("s3://bucket/texts")
