"""`tinyslm compare`."""

import shutil
from pathlib import Path


def test_a_run_and_its_export(tinyslm, finished: Path, texts: Path) -> None:
    assert tinyslm("export", finished, "--to", "hf:bf16", "--out", ".", "--no-verify").code == 0
    ended = tinyslm("compare", finished, "run-hf-bf16", "--text", texts, "--tokens", "200", "--out", "compared")
    assert (ended.code, ended.err) == (0, "")
    assert "bits/B" in ended.out
    rows = [line for line in ended.out.splitlines() if line.startswith("run")]
    assert [row.split()[0] for row in rows] == ["run", "run-hf-bf16"]
    assert "+0.00%" in rows[0]
    names = {path.name for path in Path("compared").iterdir()}
    assert names == {"comparison.html", "comparison.png", "comparison.svg", "comparison.json"}
    again = tinyslm("compare", finished, "--text", texts, "--out", "compared")
    assert "already holds a comparison" in again.mistake()


def test_tasks(tinyslm, finished: Path) -> None:
    shutil.copytree(finished / "model", "copied-model")
    ended = tinyslm("compare", finished, "copied-model", "--limit", "20", "--prompt", "Once upon")
    assert (ended.code, ended.err) == (0, "")
    assert "grammar: accuracy on 20 items, chance 0.500" in ended.out
    assert 'the built-in set "grammar"' in ended.out
    rows = [line for line in ended.out.splitlines() if line.startswith("copied-model") and "(" in line]
    assert rows[0].split()[-5:] == ["+0.000", "(+0.000", "to", "+0.000)", "1.000"]
    assert "Outcomes differ on 0 of 20 items." in ended.out
    assert ended.out.count("\nOnce upon") == 2
    tables, _, _ = ended.out.partition("\nrun:\n")
    assert max(map(len, tables.splitlines())) <= 80


def test_mistakes(tinyslm, finished: Path, texts: Path) -> None:
    assert "No models to compare were given." in tinyslm("compare", "--text", texts).mistake()
    empty = Path("empty.txt")
    empty.write_text("")
    assert "No text was found" in tinyslm("compare", finished, "--text", empty).mistake()
    assert 'Unknown task "gramar"' in tinyslm("compare", finished, "--tasks", "gramar").mistake()
    assert "does not answer" in tinyslm("compare", "http://127.0.0.1:9/v1", "--tasks", "grammar").mistake()
    assert "0 tokens cannot be scored" in tinyslm("compare", finished, "--text", texts, "--tokens", "0").mistake()
    assert "nowhere does not exist" in tinyslm("compare", "nowhere", "--text", texts).mistake()
