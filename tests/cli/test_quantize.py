"""`tinyslm quantize`, and the verbs that read what it wrote."""

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def quantized(tinyslm, finished: Path, texts: Path) -> Path:
    ended = tinyslm("quantize", finished, "--out", "small", "--calibrate", texts, "--judge-tokens", "300")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert [line[:9] for line in lines if line.startswith(("original", "rounded", "GPTQ"))] == [
        "original ",
        "rounded t",
        "GPTQ     ",
    ]
    assert "bits/w" in ended.out
    assert "held-out tokens" in ended.out
    return Path("small")


def test_every_verb_reads_the_folder(tinyslm, quantized: Path, finished: Path, texts: Path) -> None:
    ended = tinyslm("generate", quantized, "--prompt", "the old", "--max-tokens", "5", "--seed", "1")
    assert ended.code == 0
    assert ended.out.startswith("the old")
    scores = [json.loads(tinyslm("evaluate", path, texts, "--json").out) for path in (finished, quantized)]
    assert scores[1]["bits_per_byte"] == pytest.approx(scores[0]["bits_per_byte"], rel=0.02)
    assert scores[1] != scores[0]
    shown = tinyslm("show", quantized)
    assert shown.code == 0
    report = json.loads((quantized / "quantization.json").read_text())
    written = report["rows"][-1]
    assert f"Quantized as {report['scheme']}: {written['bits_per_weight']:.2f} bits per weight over all" in shown.out
    assert "validation of the original, before it was quantized: " in shown.out
    assert f"{written['bits_per_byte']:.4f} bits per byte, where the original has" in shown.out
    (quantized / "quantization.json").unlink()
    assert "was not measured: `tinyslm evaluate` does" in tinyslm("show", quantized).out
    assert tinyslm("export", quantized, "--to", "hf", "--out", "exported", "--no-verify").code == 0
    again = tinyslm("quantize", quantized, "--out", "smaller")
    assert "quantized already" in again.mistake()
    assert not Path("smaller").exists()


def test_the_report_as_json(tinyslm, finished: Path) -> None:
    ended = tinyslm("quantize", finished, "-o", "small", "--scheme", "int8", "--json")
    report = json.loads(ended.out)
    assert report["scheme"] == "int8"
    assert report == json.loads(Path("small/quantization.json").read_text())
    assert 8 < report["rows"][-1]["bits_per_weight"] < 12


def test_mistakes(tinyslm, finished: Path) -> None:
    Path("taken").mkdir()
    assert "exists already" in tinyslm("quantize", finished, "--out", "taken").mistake()
    assert 'Did you mean "int8"?' in tinyslm("quantize", finished, "--out", "o", "--scheme", "int88").mistake()
    shutil.copytree(finished / "model", "alone")  # without the data of its run
    assert "--calibrate TEXT" in tinyslm("quantize", "alone", "--out", "o", "--method", "gptq").mistake()
    assert "--data TEXT" in tinyslm("quantize", "alone", "--out", "o", "--finetune", "1").mistake()
    assert "method" in tinyslm("quantize", finished, "--out", "o", "--method", "best").mistake()
    assert "group-size" in tinyslm("quantize", finished, "--out", "o", "--group-size", "48").mistake()
    assert "out" in tinyslm("quantize", finished).mistake()
    assert "nowhere" in tinyslm("quantize", "nowhere", "--out", "o").mistake()
    assert not Path("o").exists()
