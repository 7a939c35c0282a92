"""Text in any encoding is read as its writer meant it, or what was guessed and lost is named."""

import gzip
import io
from random import Random

import pytest
import zstandard

from tinyslm.core.config import build_config
from tinyslm.core.errors import TinyslmError
from tinyslm.data.charset import BLOCK, codec_of, utf8_stream
from tinyslm.data.config import DataConfig
from tinyslm.data.documents import READ_AS, Tally
from tinyslm.data.reading import read_documents

NAIVE = "The mill – naïve café.\nThe second line of it, with more words.\n"
RUSSIAN = "Старый мельник жил у реки и каждый день ходил на рынок. Его дочь читала книги.\n"


def read(data, encoding="", **options):
    """The text of some bytes, and what was counted while it was read."""
    tally = Tally()
    return utf8_stream(io.BytesIO(data), "a.txt", encoding, tally, **options).read().decode(), tally


def counted(tally):
    return {kind: number for kind, number in tally.counts.items() if number}


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", NAIVE),
        ("a.csv", f'id,text\r\n1,"{NAIVE}"\r\n'),
        ("a.tsv", "id\ttext\n1\t" + NAIVE.replace("\n", " ")),
        ("a.jsonl", f'{{"text": "{NAIVE}"}}'.replace("\n", "\\n")),
    ],
)
def test_a_byte_order_mark_is_followed_in_every_kind_of_file(tmp_path, name, content, encoding, compress):
    file = tmp_path / (name + {gzip.compress: ".gz", zstandard.compress: ".zst"}.get(compress, ""))
    file.write_bytes(compress(("\ufeff" + content).encode(encoding)))
    told = []
    (document,) = read_documents([str(file)], notify=told.append)
    assert document.text.replace("\n", " ").strip() == NAIVE.replace("\n", " ").strip()
    assert not told


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [NAIVE, RUSSIAN, "老磨坊主住在河边。\n每天都去市场 abc。\n"])
def test_wide_encodings_are_recognised_without_a_mark(text, encoding):
    found, tally = read(text.encode(encoding))
    assert found == text
    assert counted(tally) == {f"read_as_{encoding}": 1}


def test_numbers_of_16_bits_are_not_text():
    found, tally = read(b"".join(number.to_bytes(2, "little") for number in range(0, 60_000, 7)))
    assert (found, counted(tally)) == ("", {"binary_files": 1})


@pytest.mark.parametrize(
    "data",
    [b"\0\1\2", b"%PDF-1.7 looks like text at first", b"\x89PNG\r\n\x1a\n\0\0\0", bytes(range(256)) * 9, b"\0" * 99],
)
def test_binary_files_are_skipped_and_named(data):
    found, tally = read(data)
    assert (found, counted(tally), tally.places["binary_files"]) == ("", {"binary_files": 1}, ["a.txt"])


def test_text_in_no_known_encoding_is_skipped_and_named():
    noise = bytes(Random(1).choices(range(32, 256), k=5000))
    found, tally = read(noise)
    assert (found, counted(tally), tally.places["undecodable_files"]) == ("", {"undecodable_files": 1}, ["a.txt"])
    (told,) = tally.warnings()
    assert "--data.encoding" in told
    assert counted(read(noise, "cp1252")[1]).keys() == {"undecodable_bytes"}


def test_a_zero_byte_does_not_make_a_file_binary():
    assert read(b"A \0 text with one stray zero.\n") == ("A \0 text with one stray zero.\n", Tally())


def test_stray_bytes_in_utf8_are_counted_and_named():
    text, tally = read("Größe, Äpfel und Öl\nschön\n".encode() + b"caf\xe9 \xff\n" + "grün".encode())
    assert text == "Größe, Äpfel und Öl\nschön\ncaf\ufffd \ufffd\ngrün"
    assert counted(tally) == {"undecodable_bytes": 2}
    assert list(tally.warnings()) == ["2 sequences of bytes could not be decoded and became U+FFFD: a.txt:3, ...."]
    with pytest.raises(TinyslmError, match=r"a\.txt:3 has bytes that are not utf-8"):
        read("Größe, Äpfel und Öl\nschön\n".encode() + b"caf\xe9 \xff\n", strict=True)


@pytest.mark.parametrize("end", ["", " ", "\n"])
def test_the_last_character_counts_too(end):
    assert read(f"An old café{end}".encode("cp1252")) == (f"An old café{end}", read(b"caf\xe9 ")[1])
    assert counted(read(f"An old café{end}".encode())[1]) == {}
    assert counted(read("Größe in Köln, caf".encode() + b"\xc3")[1]) == {"undecodable_bytes": 1}


def test_replacement_characters_of_the_writer_are_not_counted():
    assert counted(read("a \ufffd b".encode() + b"\xc3")[1]) == {"undecodable_bytes": 1}
    assert counted(read("a \ufffd b".encode())[1]) == {}


@pytest.mark.parametrize("encoding", ["utf-8", "cp1251", "utf-16", "gb18030"])
def test_characters_are_whole_where_blocks_meet(encoding):
    text = "a" + (RUSSIAN * (3 * BLOCK // len(RUSSIAN)))
    found, tally = read(text.encode(encoding), "windows-1251" if encoding == "cp1251" else encoding)
    assert found == text
    assert counted(tally) == {}


def test_the_encoding_is_found_where_text_stops_being_ascii():
    before = "The mill turns.\n" * (BLOCK // 16) * 3
    found, tally = read(before.encode() + RUSSIAN.encode("cp1251"))
    assert found == before + RUSSIAN
    assert counted(tally) == {"read_as_windows-1251": 1}
    assert counted(read(before.encode() + RUSSIAN.encode())[1]) == {}


def test_a_named_encoding_is_for_files_that_are_not_utf8(tmp_path):
    (tmp_path / "a.txt").write_bytes("Größe „schön“\n".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes("Grüße\n".encode())
    (tmp_path / "c.txt").write_bytes("\ufeffÄpfel\n".encode("utf-16-le"))
    told = []
    found = [one.text for one in read_documents([str(tmp_path)], DataConfig(encoding="latin-1"), notify=told.append)]
    assert found == ["Größe „schön“\n", "Grüße\n", "Äpfel\n"]
    assert told == [f"1 file is UTF-8 and was read as such, in spite of --data.encoding: {tmp_path / 'b.txt'}."]
    assert read("日本語\n".encode("iso-2022-jp"), "iso-2022-jp") == ("日本語\n", Tally())


def test_bytes_that_the_named_encoding_lacks_are_counted():
    assert counted(read("Größe\n".encode("cp1252") + b"\x81", "cp1252")[1]) == {"undecodable_bytes": 1}


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("ISO-8859-1", "cp1252"),
        ("latin1", "cp1252"),
        ("us-ascii", "cp1252"),
        ("gb2312", "gb18030"),
        ("GBK", "gb18030"),
        ("shift_jis", "cp932"),
        ("ks_c_5601-1987", "cp949"),
        ("big5", "big5hkscs"),
        ("utf8", "utf-8"),
    ],
)
def test_names_mean_what_they_mean_on_the_web(label, codec):
    assert codec_of(label) == codec


@pytest.mark.parametrize("label", ["windws-1251", "hex", "idna", "rot13", "unicode_escape", "\0"])
def test_unknown_encodings_are_refused_with_a_suggestion(label):
    with pytest.raises(TinyslmError, match="there is no encoding") as error:
        build_config(DataConfig, {"encoding": label})
    assert label != "windws-1251" or 'Did you mean "windows-1251"?' in error.value.problem


@pytest.mark.parametrize(
    ("encoding", "text"), [("iso2022_jp", "件名: こんにちは、世界。\n"), ("iso2022_kr", "안녕하세요 세계\n")]
)
def test_encodings_of_ascii_bytes_are_recognised(encoding, text):
    found, tally = read(("Subject\n" + text * 3).encode(encoding))
    assert found == "Subject\n" + text * 3
    assert counted(tally) == {READ_AS + encoding.replace("_", "-"): 1}
    logged = b"\x1b[31mred\x1b[0m \x1b(B and \x1b$ alone\n"
    assert read(logged)[0].encode() == logged
