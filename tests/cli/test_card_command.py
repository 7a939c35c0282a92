"""`tinyslm card`."""

import json
from pathlib import Path


def test_it_prints_or_writes_the_card(tinyslm, finished: Path) -> None:
    ended = tinyslm("card", finished)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("---\nlibrary_name: transformers\n")
    assert "| texts | 30 documents," in ended.out
    assert f"| bits per byte | {json.loads((finished / 'result.json').read_text())['bits_per_byte']:.4f} |" in ended.out
    written = tinyslm("card", finished / "model", "--licence", "mit", "--out", "README.md")
    assert written.out == "Model card: README.md\n"
    assert Path("README.md").read_text() == tinyslm("card", finished, "--licence", "mit").out
    told = json.loads(tinyslm("card", finished, "--json").out)
    assert dict(told["sections"])["Model"][0][0] == "family"


def test_wrong_input(tinyslm, finished: Path) -> None:
    assert 'no licence "mti". Did you mean "mit"?' in tinyslm("card", finished, "--licence", "mti").mistake()
    assert "none does not exist" in tinyslm("card", "none").mistake()
    ended = tinyslm("card", finished, "--scores", finished / "result.json")
    assert "Give a file that `tinyslm evaluate --tasks" in ended.mistake()
