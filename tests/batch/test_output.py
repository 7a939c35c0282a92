"""Results as JSONL, CSV and Parquet."""

import csv
import json

import pyarrow.parquet
import pytest

from tinyslm.batch.output import check_suffix, write_results
from tinyslm.core.errors import TinyslmError

RESULTS = [
    {"row": 1, "input": {"id": "a", "row": 7}, "text": "{}", "value": {"price": 1, "error": "x"}, "error": None},
    {"row": 2, "input": {"id": "b", "row": 8}, "text": "{}", "value": {"price": 2.5, "tags": ["ü"]}, "error": None},
    {"row": 3, "input": {"id": None, "row": 9}, "text": '{"pri', "value": None, "error": "cut off"},
]
PLAIN = [{"row": 1, "text": 'a\nb, "c"', "error": None}, {"row": 2, "text": None, "error": "oops"}]


def written(results, path, fields=()):
    write_results(lambda: iter(results), path, fields)
    return path


def test_jsonl_has_the_results_unchanged(tmp_path):
    path = written(RESULTS, tmp_path / "out.jsonl")
    assert [json.loads(line) for line in path.read_text().splitlines()] == RESULTS


def test_tables_have_a_column_for_each_property(tmp_path):
    with written(RESULTS, tmp_path / "out.csv", ("title", "price")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "id", "input.row", "title", "price", "value.error", "tags", "error"]
    assert [row["price"] for row in rows] == ["1", "2.5", ""]
    assert [row["input.row"] for row in rows] == ["7", "8", "9"]
    assert [row["value.error"] for row in rows] == ["x", "", ""]
    assert rows[1]["tags"] == '["ü"]'
    assert [row["error"] for row in rows] == ["", "", "cut off"]


def test_parquet_has_types(tmp_path):
    table = pyarrow.parquet.read_table(written(RESULTS, tmp_path / "out.parquet", ("title",)))
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "row": "int64",
        "id": "string",
        "input.row": "int64",
        "title": "string",
        "price": "double",
        "value.error": "string",
        "tags": "string",
        "error": "string",
    }
    assert table.column("price").to_pylist() == [1.0, 2.5, None]


def test_numbers_too_large_for_parquet_and_mixed_types_become_text(tmp_path):
    results = [{"row": 1, "value": {"a": 2**70, "b": True}}, {"row": 2, "value": {"a": 1, "b": "x"}}]
    table = pyarrow.parquet.read_table(written(results, tmp_path / "out.parquet"))
    assert table.column("a").to_pylist() == [str(2**70), "1"]
    assert table.column("b").to_pylist() == ["true", "x"]


def test_other_values_than_objects_have_one_column(tmp_path):
    results = [{"row": 1, "text": "[1]", "value": [1]}, {"row": 2, "text": "[2]", "value": [2]}]
    with written(results, tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["row", "value"], ["1", "[1]"], ["2", "[2]"]]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_texts_survive(tmp_path, ending):
    path = written(PLAIN, tmp_path / f"out{ending}")
    if ending == ".csv":
        with path.open(newline="") as file:
            assert [row["text"] for row in csv.DictReader(file)] == ['a\nb, "c"', ""]
    else:
        assert pyarrow.parquet.read_table(path).column("text").to_pylist() == ['a\nb, "c"', None]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_no_results(tmp_path, ending):
    assert written([], tmp_path / f"out{ending}", ("a",)).exists()
    assert [path.name for path in tmp_path.iterdir()] == [f"out{ending}"]


def test_other_suffixes_are_rejected(tmp_path):
    with pytest.raises(TinyslmError, match=r"format of .* is unknown"):
        check_suffix(tmp_path / "out.xlsx")
