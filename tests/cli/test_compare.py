"""`tinyslm compare`."""

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


def test_mistakes(tinyslm, finished: Path, texts: Path) -> None:
    assert "Nothing to compare was given." in tinyslm("compare", "--text", texts).mistake()
    assert "--text FILE" in tinyslm("compare", finished).mistake()
    assert "0 tokens cannot be scored" in tinyslm("compare", finished, "--text", texts, "--tokens", "0").mistake()
    assert "There is no nowhere" in tinyslm("compare", "nowhere", "--text", texts).mistake()
