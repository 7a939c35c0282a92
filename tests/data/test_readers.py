import gzip
import io
import itertools
import json
import subprocess
import sys

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.errors import TinyslmError
from tinyslm.data import documents, html
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import PIECE, pieces_of_stream, pieces_of_text
from tinyslm.data.html import _trafilatura
from tinyslm.data.reading import read_documents


def texts(*paths, **settings):
    return [document.text for document in read_documents([str(path) for path in paths], DataConfig(**settings))]


def notices(*paths, **settings):
    told = []
    list(read_documents([str(path) for path in paths], DataConfig(**settings), notify=told.append))
    return told


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


CSV = 'id,text\n1,"first, with comma\nand line"\n2,second\n'
JSONL = '{"id": 1, "text": "first, with comma\\nand line"}\n\n{"id": 2, "text": "second"}\n'


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "first\n\nsecond\n", ["first\n\nsecond\n"]),
        ("a.py", "def f(): ...\n", ["def f(): ...\n"]),
        ("README", "\ufeffno suffix", ["no suffix"]),
        ("a.jsonl", JSONL, ["first, with comma\nand line", "second"]),
        ("a.csv", CSV, ["first, with comma\nand line", "second"]),
        (
            "a.tsv",
            CSV.replace(",", "\t", 1).replace("1,", "1\t").replace("2,", "2\t"),
            ["first, with comma\nand line", "second"],
        ),
        (
            "a.csv",
            CSV.replace("id,text", "id;Text").replace("1,", "1;").replace("2,", "2;"),
            ["first, with comma\nand line", "second"],
        ),
    ],
)
def test_each_kind_of_file_plain_and_compressed(tmp_path, name, content, expected, compression):
    packed = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[compression](content.encode())
    assert texts(write(tmp_path / (name + compression), packed)) == expected


def test_the_source_names_file_and_row(tmp_path):
    file = write(tmp_path / "a.jsonl", JSONL)
    assert [document.source for document in read_documents([str(file)])] == [f"{file}:1", f"{file}:3"]


def test_parquet_plain_and_compressed(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.table({"id": [1, 2, 3], "content": ["first", None, "third"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    write(tmp_path / "b.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert texts(tmp_path / "a.parquet") == ["first", "third"]
    assert texts(tmp_path / "b.parquet.gz") == ["first", "third"]
    assert "1 row without a text" in notices(tmp_path / "a.parquet")[0]
    prose = [f"The mill in the {place} turns all day." for place in ("valley", "village")]
    table = pa.table({"__index_level_0__": ["0", "1"], "kind": ["a", "b"], "abstract": prose})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    assert texts(tmp_path / "d.parquet") == prose
    assert notices(tmp_path / "d.parquet")[0].endswith("d.parquet (abstract).")
    write(tmp_path / "c.parquet", b"not parquet")
    with pytest.raises(TinyslmError, match=r"c\.parquet"):
        texts(tmp_path / "c.parquet")


PAGE = """<!doctype html><html><head><title>t</title><script>var hidden = 1</script></head><body><nav>menu entry</nav>
<article><h1>A heading</h1><p>{}</p></article><footer>imprint</footer></body></html>"""


@pytest.mark.parametrize("with_trafilatura", [True, False])
def test_html_gives_the_main_text(tmp_path, monkeypatch, with_trafilatura):
    if with_trafilatura and not _trafilatura():
        pytest.skip("trafilatura is not installed")
    if not with_trafilatura:
        monkeypatch.setattr(html, "_trafilatura", lambda: None)
    text = "The cat sat on the mat &amp; saw a dog. " * 20
    (found,) = texts(write(tmp_path / "a.html", PAGE.format(text)))
    assert "mat & saw" in found
    assert "hidden" not in found
    assert "menu entry" not in found


def test_html_in_the_encoding_that_it_declares(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "_trafilatura", lambda: None)
    page = '<html><head><meta charset="iso-8859-1"></head><body>déjà vu</body></html>'
    assert texts(write(tmp_path / "a.html", page.encode("latin-1"))) == ["déjà vu"]


def test_folders_globs_and_files_in_a_fixed_order(tmp_path):
    for name in ("b/2.txt", "b/1.md", "a.rst", "c/deep/er.txt", "c/empty.txt"):
        write(tmp_path / name, "" if "empty" in name else name)
    assert texts(tmp_path) == ["a.rst", "b/1.md", "b/2.txt", "c/deep/er.txt"]
    assert texts(tmp_path / "**/*.txt") == ["b/2.txt", "c/deep/er.txt"]
    assert texts(tmp_path / "c", tmp_path / "a.rst") == ["c/deep/er.txt", "a.rst"]


def test_hidden_files_and_binaries_are_skipped(tmp_path):
    write(tmp_path / "a.txt", "text")
    write(tmp_path / ".hidden", "no")
    write(tmp_path / ".git/config", "no")
    write(tmp_path / "picture", b"\x89PNG\r\n\x1a\n\0\0\0")
    write(tmp_path / "paper.pdf", b"%PDF-1.7 looks like text at first")
    assert texts(tmp_path) == ["text"]
    assert notices(tmp_path)[0].startswith("2 files that are not text were skipped: ")


def test_standard_input():
    program = "from tinyslm.data.reading import read_documents; print([d.text for d in read_documents(['-'])])"
    run = subprocess.run([sys.executable, "-c", program], input=b"one\r\ntwo", capture_output=True, check=True)
    assert run.stdout.decode().strip() == "['one\\ntwo']"


def test_hub_data_sets_from_a_local_folder(tmp_path):
    """In a process of its own: the library keeps global state, and may warn about its own dependencies."""
    pytest.importorskip("datasets")
    rows = "".join(json.dumps({"text": f"text {number}", "label": number}) + "\n" for number in range(3))
    write(tmp_path / "set/train.jsonl", rows)
    write(tmp_path / "set/test.jsonl", '{"text": "held out", "label": 0}\n')
    program = """
import sys
from tinyslm.data.reading import read_documents
from tinyslm.data.html import _trafilatura
for name in sys.argv[1:]:
    print([d.text for d in read_documents([name])])
"""
    names = [f"hf://{tmp_path / 'set'}", f"hf://{tmp_path / 'set'}:test"]
    run = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["['text 0', 'text 1', 'text 2']", "['held out']"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, ["a"]), ({"text_column": "title"}, ["b"])],
)
def test_the_text_column_is_found_or_given(tmp_path, settings, expected):
    file = write(tmp_path / "a.jsonl", '{"title": "b", "Content": "a"}\n')
    assert texts(file, **settings) == expected


@pytest.mark.parametrize(("name", "content"), [("a.csv", "id,label\n1,x\n"), ("a.jsonl", '{"id": 1, "label": "x"}\n')])
def test_no_text_column_names_the_columns(tmp_path, name, content):
    with pytest.raises(TinyslmError, match="id, label") as error:
        texts(write(tmp_path / name, content))
    assert "text_column" in error.value.remedy
    with pytest.raises(TinyslmError, match='no column "story"'):
        texts(tmp_path / name, text_column="story")


BROKEN = '{"text": "one"}\n{"text": "two"\n["no", "object"]\n{"text": null}\n{"other": 1}\n{"text": "six"}'


def test_broken_lines_are_skipped_and_told(tmp_path):
    file = write(tmp_path / "a.jsonl", BROKEN)
    assert texts(file) == ["one", "six"]
    told = notices(file)
    assert told[0] == f"2 lines that are not JSON objects were skipped: {file}:2, {file}:3."
    assert told[1] == f"2 rows without a text were skipped: {file}:4, {file}:5."


def test_broken_lines_are_an_error_with_strict(tmp_path):
    file = write(tmp_path / "a.jsonl", BROKEN)
    with pytest.raises(TinyslmError, match=r"a\.jsonl:2 is not valid JSON"):
        texts(file, strict=True)


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tmp_path):
    file = write(tmp_path / "a.jsonl", b'{"text": "lone \\ud800 half"}')
    assert texts(file) == ["lone \ufffd half"]
    assert notices(file)[0].startswith("1 text held bytes that are not UTF-8")


def test_nothing_to_read(tmp_path):
    with pytest.raises(TinyslmError, match=r"missing\S* does not exist"):
        texts(tmp_path / "missing")
    with pytest.raises(TinyslmError, match="Nothing matches"):
        texts(tmp_path / "*.nothing")
    with pytest.raises(TinyslmError, match="has no file to read"):
        texts(tmp_path)
    write(tmp_path / "b/binary", b"\0\1\2")
    with pytest.raises(TinyslmError, match=r"No text was found in .* \(binary files: 1, files: 1\)"):
        texts(tmp_path / "b")
    write(tmp_path / "empty.txt", " \n")
    with pytest.raises(TinyslmError, match="empty documents: 1"):
        texts(tmp_path / "empty.txt")


def test_an_empty_file_among_those_named_is_counted(tmp_path):
    """A shell's `*.py` names empty files, too."""
    paths = [str(write(tmp_path / name, text)) for name, text in {"__init__.py": "", "one.py": "x = 1\n"}.items()]
    warnings: list[str] = []
    assert [document.text for document in read_documents(paths, notify=warnings.append)] == ["x = 1\n"]
    assert warnings == [f"1 file is empty: {paths[0]}."]
    with pytest.raises(TinyslmError, match="No text was found"):
        texts(paths[0])


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
def test_damaged_compressed_files_are_named(tmp_path, name):
    pack = gzip.compress if name.endswith("gz") else zstandard.compress
    whole = pack(b"".join(b"line %d\n" % number for number in range(300_000)))
    for content in (b"not compressed", whole[: len(whole) // 2], whole + whole[:1000]):
        with pytest.raises(TinyslmError, match=f"Could not read .*{name}"):
            texts(write(tmp_path / name, content))


def test_compressed_files_of_several_frames(tmp_path):
    for suffix, pack in ((".gz", gzip.compress), (".zst", zstandard.compress)):
        file = write(tmp_path / f"a.txt{suffix}", pack(b"one ") + pack(b"two ") + pack(b"x" * 3_000_000))
        assert "".join(texts(file)) == "one two " + "x" * 3_000_000


def test_long_texts_come_in_pieces_of_one_document(tmp_path):
    paragraph = "word " * 100 + "\n\n"
    whole = paragraph * 6000
    for file in (write(tmp_path / "a.txt", whole), write(tmp_path / "a.jsonl", json.dumps({"text": whole}))):
        pieces = list(read_documents([str(file)]))
        assert len(pieces) == 3
        assert "".join(piece.text for piece in pieces) == whole
        assert [piece.last for piece in pieces] == [False, False, True]
        assert len({piece.source for piece in pieces}) == 1
        assert all(piece.text.endswith("\n\n") for piece in pieces)


def test_one_very_long_line(tmp_path):
    line = "häschen " * 3_500_000  # 31 MB
    assert "".join(texts(write(tmp_path / "a.txt", line))) == line
    assert "".join(texts(write(tmp_path / "a.jsonl", json.dumps({"text": line})))) == line


@given(st.text(alphabet="a\n\r€😀", max_size=200))
@settings(deadline=None)
def test_pieces_join_to_the_whole(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PIECE", 16)
        pieces = list(pieces_of_text(text))
        assert "".join(piece for piece, _ in pieces) == text
        assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
        assert all(len(piece.encode()) <= 16 for piece, _ in pieces)
        assert not any(
            piece.endswith("\r") and after.startswith("\n") for (piece, _), (after, _) in itertools.pairwise(pieces)
        )


def test_bytes_that_are_no_text_are_cut_too():
    pieces = [piece for piece, _ in pieces_of_stream(io.BytesIO(b"\x80" * (2 * PIECE + 5)))]
    assert b"".join(pieces) == b"\x80" * (2 * PIECE + 5)
    assert all(0 < len(piece) <= PIECE for piece in pieces)
