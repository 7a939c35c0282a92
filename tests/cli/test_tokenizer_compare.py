"""`tinyslm tokenizer compare`."""

import json
from pathlib import Path


def test_tables_and_page(tinyslm, finished: Path, texts: Path) -> None:
    ended = tinyslm(
        "tokenizer", "compare", finished, "char:384", "--text", texts, "--sample", "-5 °C", "--out", "c.html"
    )
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "Bytes per token" in ended.out
    assert ended.out.count("char:384: ") == 4  # the samples
    assert "\n  2026" not in ended.out
    assert "-|5|·|" in ended.out
    assert "<h2>How texts are cut</h2>" in Path("c.html").read_text()
    again = tinyslm("tokenizer", "compare", "byte", "--text", texts, "--out", "c.html")
    assert "c.html exists already" in again.mistake()


def test_json(tinyslm, texts: Path) -> None:
    ended = tinyslm("tokenizer", "compare", "byte", "--text", texts, "--params", "1M", "--json")
    (report,) = json.loads(ended.out)["reports"]
    assert (report["kind"], report["bytes_per_token"]) == ("byte", 1.0)


def test_mistakes(tinyslm, texts: Path) -> None:
    Path("empty").mkdir()
    assert "No text to measure on" in tinyslm("tokenizer", "compare", "byte").mistake()
    assert "tokenizer.json does not exist" in tinyslm("tokenizer", "compare", "empty", "--text", texts).mistake()
    assert "--params 0" in tinyslm("tokenizer", "compare", "byte", "--text", texts, "--params", "0").mistake()
    assert "0 characters" in tinyslm("tokenizer", "compare", "byte", "--text", texts, "--sample", "").mistake()
