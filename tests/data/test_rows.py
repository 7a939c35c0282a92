"""Rows from every kind of input."""

import io
import json
import sys

import pyarrow
import pyarrow.parquet
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data import rows as rows_module
from tinyslm.data.rows import Rows


def read(path, kind=""):
    return [(row.number, dict(row.values), row.problem) for row in Rows(str(path), kind)]


def test_lines_of_json(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": "\xc3\x87a"}\r\n[1]\n{"a"\n\xff\n{"a": 4}')
    found = read(path)
    assert [(number, values) for number, values, problem in found if not problem] == [
        (1, {"a": 1}),
        (2, {"a": "Ça"}),
        (6, {"a": 4}),
    ]
    problems = [problem for _, _, problem in found if problem]
    assert problems[0] == "the line is not a JSON object"
    assert "not valid JSON" in problems[1]
    assert problems[2] == "the line is not valid JSON: byte 0 is not UTF-8"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_text(tmp_path, delimiter):
    path = tmp_path / "in.csv"
    lines = [["name", "text"], ["x", f'"a{delimiter}b"'], ["y", '"two\nlines"'], ["z"]]
    path.write_text("\ufeff" + "".join(delimiter.join(line) + "\n" for line in lines), encoding="utf-8")
    assert read(path) == [
        (1, {"name": "x", "text": f"a{delimiter}b"}, ""),
        (2, {"name": "y", "text": "two\nlines"}, ""),
        (3, {"name": "z"}, "the row in line 5 cannot be read: it has fewer cells than the header"),
    ]


def test_a_quote_that_is_not_closed_is_a_problem_of_its_row(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('id,text\n1,"one"\n2,"two\n3,"three"\n4,"fo""ur\nor, so"\n')
    assert read(path) == [
        (1, {"id": "1", "text": "one"}, ""),
        (2, {}, "the row in line 3 cannot be read: it has a quote that is opened but not closed"),
        (3, {"id": "3", "text": "three"}, ""),
        (4, {"id": "4", "text": 'fo"ur\nor, so'}, ""),
    ]


def test_columns_without_a_name_are_omitted(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("sep=;\n;text;;\n0;one;;\n1;two;;\n")
    assert [values for _, values, _ in read(path)] == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "content"),
    [("in.csv", "text,id\nKäse,1\n"), ("in.jsonl", '{"text": "Käse"}\n'), ("in.txt", "Käse\n")],
)
def test_a_byte_order_mark_is_followed(tmp_path, name, content, encoding):
    (tmp_path / name).write_bytes(("\ufeff" + content).encode(encoding))
    assert [(values["text"], problem) for _, values, problem in read(tmp_path / name)] == [("Käse", "")]


def test_parquet(tmp_path):
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2, None], "b": ["x", None, "z"]}), path)
    rows = Rows(str(path))
    assert [dict(row.values) for row in rows] == [{"a": 1, "b": "x"}, {"a": 2, "b": None}, {"a": None, "b": "z"}]
    assert rows.share == 1


@pytest.mark.parametrize(("first", "kind"), [('{"a": 1}', "jsonl"), ("[1] oops", "text")])
def test_the_first_line_decides_the_format_of_standard_input(monkeypatch, first, kind):
    data = f'{first}\n\n{{"a": 2}}\n'.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    rows = Rows("-")
    second = {"a": 2} if kind == "jsonl" else {"text": '{"a": 2}'}
    found = [row.values for row in rows]
    assert (rows.kind, rows.share) == (kind, None)
    assert found == [json.loads(first) if kind == "jsonl" else {"text": first}, second]


def test_checks_differ_from_the_first_changed_row_on(tmp_path):
    path = tmp_path / "in.jsonl"

    def checks(*values):
        path.write_text("".join(json.dumps({"a": value}) + "\n" for value in values))
        return [row.check for row in Rows(str(path))]

    one, other = checks(1, 2, 3), checks(1, 5, 3)
    assert one[0] == other[0]
    assert one[1] != other[1]
    assert one[2] != other[2]
    assert checks(1, 2) == one[:2]


def test_a_line_without_end_is_a_problem_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "LONGEST_LINE", 16)
    path = tmp_path / "in.txt"
    path.write_text(f"short\n{'x' * 100}\nlast\n")
    assert [(row.values.get("text"), bool(row.problem)) for row in Rows(str(path))] == [
        ("short", False),
        (None, True),
        ("last", False),
    ]


def test_a_row_has_a_limited_number_of_values(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_VALUES", 10)
    (tmp_path / "in.jsonl").write_text(f'{{"a": {[0] * 20}}}\n{{"a": "{"," * 20}\\""}}\n')
    assert [problem for _, _, problem in read(tmp_path / "in.jsonl")] == ["the line has more than 10 values", ""]


def test_the_share_that_was_read(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("0123456789\n" * 4)
    rows = Rows(str(path))
    assert [rows.share for _ in rows] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("in.xyz", b"", "The format of .* is unknown"),
        ("in.csv", b"a,b\n\xff\xfe,2\n", "is not a CSV file in UTF-8"),
        ("in.csv", b"a,a\n1,2\n", "two columns with the same name"),
        ("in.parquet", b"PAR1 no", "is not a valid Parquet file"),
    ],
)
def test_invalid_inputs(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TinyslmError, match=expected):
        read(tmp_path / name)


def test_inputs_that_cannot_be_read(tmp_path):
    with pytest.raises(TinyslmError, match="Could not read"):
        Rows(str(tmp_path / "none.jsonl"))
    with pytest.raises(TinyslmError, match="Could not read"):
        Rows(str(tmp_path), "jsonl")
    with pytest.raises(TinyslmError, match='There is no input format "jsn"'):
        Rows("in", "jsn")
