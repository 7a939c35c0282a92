"""Delimited text is read as its writer meant it, and what cannot be is named by its line."""

import csv
import io
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.core.errors import TinyslmError
from tinyslm.data import csv_records
from tinyslm.data.config import DataConfig
from tinyslm.data.csv_records import Dialect, Lines, read_lines
from tinyslm.data.csv_table import Table
from tinyslm.data.reading import read_documents

MILL, FERRY = "The mill turns all day long.", "The ferry leaves, and nobody waits."
PROSE = [f"The {one} of the {two} leaves the {two} behind." for one in ("mill", "ferry") for two in ("sea", "town")]


def table(text, **options):
    found = Table(io.BytesIO(text.encode()), "a.csv", **{"limit": 10_000, **options})
    return found.columns, [(row.line, row.problem or row.cells) for row in found]


def rows(text, **options):
    return [cells for _, cells in table(text, **options)[1]]


@pytest.fixture
def read(tmp_path):
    """The texts in a table, and the warnings."""

    def read(content, name="a.csv", **options):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        told = []
        found = [one.text for one in read_documents([str(tmp_path / name)], DataConfig(**options), notify=told.append)]
        return found, [line.replace(str(tmp_path) + "/", "") for line in told]

    return read


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "Unnamed: 0"])
def test_an_index_is_never_the_text(read, first, delimiter, end):
    lines = [[first, "text", "label"], ["0", f'"{MILL}"', "a"], ["1", f'"{FERRY}"', "b"]]
    assert read("".join(delimiter.join(line) + end for line in lines)) == ([MILL, FERRY], [])


def test_an_index_is_not_the_text_where_no_name_is_known_either(read):
    content = ",label,abstract\n" + "".join(f'{number},x,"{text}"\n' for number, text in enumerate(PROSE))
    told = "1 table has no column with a usual name for text; its longest prose was taken: a.csv (abstract)."
    assert read(content) == (PROSE, [told])
    with pytest.raises(TinyslmError, match="no column that is known to hold text; its columns: label, size") as error:
        read(",label,size\n0,a,1\n1,b,2\n")
    assert "--data.text_column" in error.value.remedy


def test_at_most_20_columns_are_listed_and_a_typing_mistake_is_seen(read):
    header = ",".join(["story", *(f"c{number}" for number in range(30))])
    with pytest.raises(TinyslmError, match="c18 and 11 more") as error:
        read(header + "\n" + "x," * 30 + "x\n", text_column="sotry")
    assert 'Did you mean "story"?' in error.value.remedy


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f'"","text"\n"1","{MILL}"\n"2","{FERRY}"\n', []),  # R's write.csv
        (f'"id","text"\n"1",7,"{MILL}"\n"2",8,"{FERRY}"\n', ["named_rows"]),  # write.table(sep = ",")
        (f'"text"\n"1","{MILL}"\n"2","{FERRY}"\n', ["named_rows"]),
        (f'"id" "text"\n"1" 7 "{MILL}"\n"2" 8 "{FERRY}"\n', ["named_rows"]),  # write.table
        (f'text\tid\n1\t"{MILL}"\t1\n2\t"{FERRY}"\t2\n', ["named_rows"]),  # quote = FALSE for names
    ],
)
def test_tables_as_r_writes_them(read, content, expected):
    found, told = read(content)
    assert found == [MILL, FERRY]
    assert [("named_rows" if "row names" in line else line) for line in told] == expected


def test_text_with_delimiters_is_not_taken_for_row_names(read):
    found, told = read(f"id,text\n1,Hello, world\n2,Well, well\n3,{MILL}\n")
    assert found == [MILL]
    assert told == ["2 rows with more cells than the header were skipped: a.csv:2, a.csv:3."]


@pytest.mark.parametrize("titles", ["Export of 2024\n", "Export of 2024;;\n\n;;\n", '"All, of ""them"""\n# id\n'])
def test_titles_above_the_header_are_skipped_and_counted(read, titles):
    found, told = read(f'{titles}id;text;label\n1;"{FERRY}";a\n2;{MILL};b\n')
    assert found == [FERRY, MILL]
    assert told == ["1 table has lines above its header, which were skipped: a.csv."]


def test_a_row_with_a_usual_name_in_it_is_not_the_header(read):
    content = "title,kind,abstract\n" + "".join(f"{number},article,{text}\n" for number, text in enumerate(PROSE))
    found, told = read(content)
    assert found == PROSE
    assert told == ["1 table has no column with a usual name for text; its longest prose was taken: a.csv (abstract)."]


@pytest.mark.parametrize("sep", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;"])
def test_the_line_in_which_excel_names_the_delimiter(read, sep):
    assert read(f'{sep}\r\nid;text\r\n1;"{FERRY}"\r\n2;{MILL}\r\n') == ([FERRY, MILL], [])
    assert read(f"{sep.replace(';', ',')}\nid,text;x\n1,{MILL}\n", text_column="id")[0] == ["1"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id,text,,\n1,one,,\n2,two,,\n", ["one", "two"]),  # in the header and the rows
        ("id,text\n1,one,,\n2,two,,\n", ["one", "two"]),  # in the rows only
        ("id,text,,\n1,one\n2,two\n", ["one", "two"]),  # in the header only
        ("text\none,\ntwo,\n", ["one,", "two,"]),  # of a table with one column, commas are text
        ('"text"\n"one, two"\nthree, "four"\n', ["one, two", 'three, "four"']),
        ("\n\nid,text\n\n1,one\n\n2,two\n", ["one", "two"]),
        ('"the\nid","the long\r\ntext"\n1,one\n2,two\n', ["one", "two"]),
        ('"the\nid","text"\n1,one\n2,two\n', ["one", "two"]),
        ('id,"text"\n1,"one"\n2,two', ["one", "two"]),
        ("id, text\n1, one\n", ["one"]),
        ('id,text\n1, "one, two"\n', ["one, two"]),
        ('id,text\n1,5" pipe\n2,a 3"4 b\n', ['5" pipe', 'a 3"4 b']),
        ('id,text\n1,"one ""two"" three"\n2,""""\n3,"a"",""b"\n', ['one "two" three', '"', 'a","b']),
        ('id,text\n1,"one\r\n\r\n""two"", three\r\n"\r\n2,"x"\r\n', ['one\n\n"two", three\n', "x"]),
        ('id,text\n1,"so "he" said"\n2,"so" he said\n', ['so "he" said', '"so" he said']),
        ('id,text\n1,"a "b, c" d"\n', ['a "b, c" d']),
        ('id,text\n1,"a" and "b"\n', ['"a" and "b"']),
        ("id|text\n1|one, two; three\n", ["one, two; three"]),
        ("text;price\nleft, right; and,5\nup;6\n", ["left, right", "up"]),
    ],
)
def test_tables_of_all_kinds(read, content, expected):
    column = "the long text" if "the long" in content else "text"
    assert [text.strip(" ") for text in read(content, text_column=column)[0]] == expected


UNCLOSED = [
    ('text\n"one\ntwo\nthree\n', 2, ["two", "three"]),  # nothing closes it
    ('id,text\n1,"one"\n2,"two\n3,"three"\n4,"four"\n', 3, ["one", "three", "four"]),  # the next row seems to
    ('id,text\n1,"one\n2,two\n3,"three"\n', 2, ["two", "three"]),
    ('text,id\n"one,1\n"two",2\n"three",3\n', 2, ["two", "three"]),
    ('id,text,x\n1,"one,1\n2,"two, and",2\n3,three,3\n', 2, ["two, and", "three"]),
    ('id,text\n1,"one\n2,""\n3,"th""ree"\n', 2, ["", 'th"ree']),
    ('id,text\n1,"one\n2,"t\nwo"\n3,three\n', 2, ["t\nwo", "three"]),
    ('id;text\r\n1;one\r\n2;"two\r\n3;three', 3, ["one", "three"]),
]


@pytest.mark.parametrize(("content", "line", "expected"), UNCLOSED)
def test_only_the_row_whose_quote_is_not_closed_is_lost(read, content, line, expected):
    found, told = read(content)
    assert found == [text for text in expected if text]
    assert told == [f"1 row with a quote that is opened but not closed was skipped: a.csv:{line}."]
    with pytest.raises(TinyslmError, match=rf"in line {line} of .*a\.csv cannot be read: it has a quote"):
        read(content, strict=True)


def test_a_header_whose_quote_is_not_closed_is_an_error(read):
    with pytest.raises(TinyslmError, match=r"header of .*a\.csv in line 1 cannot be read: it has a quote"):
        read('id,"text\n1,one\n2,two\n')


def test_tab_separated_values_have_no_quoting_rules(read):
    lines = ["id\ttext\n", '1\t"So it began\n', '2\t5" pipe\n', '3\t"Go" he said\n', '4\tand it ended"\n']
    expected = ['"So it began', '5" pipe', '"Go" he said', 'and it ended"']
    assert read("".join(lines), "a.tsv") == (expected, [])
    assert read("id\ttext\n1\tone, two\n", "a.tsv")[0] == ["one, two"]
    quoted = 'id\ttext\n1\t"first ""one""\nand a line"\n2\tsecond\n'
    assert read(quoted, "a.tsv")[0] == ['first "one"\nand a line', "second"]
    assert read('id\ttext\n1\t"first"\n2\t"second"\n', "a.tsv")[0] == ["first", "second"]


def test_rows_of_the_wrong_length_are_reported(read):
    found, told = read("id,text,label\n1,one,a\n2,two\n3,three,c,d\n4\n")
    assert found == ["one", "two"]
    assert told == [
        "1 row without a text was skipped: a.csv:5.",
        "1 row with more cells than the header was skipped: a.csv:4.",
        "2 rows have fewer cells than the header; the cells that they have were read: a.csv:3, a.csv:5.",
    ]


def test_rows_that_are_too_long_are_skipped_and_named(read):
    long, lines = "x" * 200, "a line of many\n" * 20
    found, told = read(f'id,text\n1,one\n2,{long}\n3,three\n4,"{lines}"\n5,five\n', max_record_bytes=100)
    assert found == ["one", "three", "five"]
    assert "1 record longer than --data.max_record_bytes was skipped: a.csv:3." in told
    assert any("a quote that is opened but not closed were skipped: a.csv:5," in line for line in told)
    with pytest.raises(TinyslmError, match="line 1 cannot be read: it is too long"):
        read("text," * 50 + "\n", max_record_bytes=100)


def test_an_endless_line_is_never_kept(read):
    asked = []

    class Endless(io.RawIOBase):
        """A header, and a line of 30 MB."""

        def readable(self):
            return True

        def readinto(self, target):
            asked.append(len(target))
            part = b"text\n" if len(asked) == 1 else b"x" * min(len(target), 30_000_000 - sum(asked))
            target[: len(part)] = part
            return len(part)

    (line, *_) = [one for one in read_lines(io.BufferedReader(Endless(), 1 << 16), 1000) if one.long]
    assert (line.number, line.text) == (2, "")


def test_what_is_kept_of_a_record_is_bounded():
    (record, *_) = table('id,text\n1,"' + "\n" * 50_000, limit=1 << 20)[1]
    assert record == (2, csv_records.UNCLOSED)
    with pytest.raises(TinyslmError, match="line 1 cannot be read: it is too long"):
        table("," * csv_records.MOST_CELLS + "\n", limit=1 << 20)


def test_quotes_all_over_do_not_make_reading_quadratic(monkeypatch):
    text = '5","open\n' * 3000
    reads = 0
    step = Lines.next

    def counted(lines):
        nonlocal reads
        reads += 1
        return step(lines)

    monkeypatch.setattr(Lines, "next", counted)
    monkeypatch.setattr(csv_records, "MOST_AGAIN", 8)
    with pytest.raises(TinyslmError, match="too many quotes that are opened but not closed"):
        rows("id,text\n" + text, limit=1_000_000)
    assert reads < 20 * 3000


def test_a_long_line_of_quotes_is_read_once():
    lines = Lines(read_lines(io.BytesIO(b'"a,' * 50_000 + b"\n"), 1 << 20))
    (record,) = Dialect(",").records(lines, 1 << 20)
    assert record.problem == csv_records.UNCLOSED


CELLS = st.text(alphabet='ab ",;\n\r', max_size=6)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6), st.sampled_from(",;\t|"))
@settings(deadline=None)
def test_what_python_writes_is_read_back(cells, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *cells])
    assert table(file.getvalue())[0] == ["a", "b", "c"]
    assert rows(file.getvalue()) == cells


def test_noise_is_read_to_its_end():
    draw = Random(3)
    for _ in range(300):
        text = "".join(draw.choices('ab,;"\t\n\r ', k=draw.randrange(60)))
        try:
            _, found = table("id,text\n" + text)
        except TinyslmError:
            continue
        numbers = [line for line, _ in found]
        assert numbers == sorted(set(numbers))
