"""`tinyslm export`."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from the_command import entries

from tinyslm.core.errors import TinyslmError


def test_a_run_is_exported_and_checked(tinyslm, finished: Path) -> None:
    ended = tinyslm("export", finished, "--to", "hf", "--out", "out")
    assert (ended.code, ended.err) == (0, "")
    assert "format  scheme" in ended.out
    assert "500/500" in ended.out
    assert "Chat template: equal ids for" in ended.out
    assert {"run-hf-f32", "exports.json"} == {path.name for path in Path("out").iterdir()}
    row = json.loads(Path("out/exports.json").read_text())["exports"][0]
    assert (row["name"], row["verdict"]) == ("run-hf-f32", "ok")


def test_prompts_come_from_calibration_text(tinyslm, finished: Path, texts: Path) -> None:
    ended = tinyslm("export", finished, "--to", "hf:bf16", "--out", "out", "--calibrate", texts, "--threads", "1")
    assert (ended.code, ended.err) == (0, "")


def test_without_a_check_the_table_says_so(tinyslm, finished: Path) -> None:
    ended = tinyslm("export", finished, "--to", "hf,hf:f16", "--out", "out", "--no-verify")
    assert ended.code == 0
    assert ended.out.count("not checked") == 2


def test_what_fails_is_renamed_and_the_exit_code_is_1(tinyslm, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyslm.export import huggingface

    real = huggingface.HF.write

    def tampered(original, scheme, path, options):
        written = real(original, scheme, path, options)
        weights = bytearray((path / "model.safetensors").read_bytes())
        weights[-2000:] = bytes(reversed(weights[-2000:]))
        (path / "model.safetensors").write_bytes(weights)
        return written

    monkeypatch.setattr(huggingface, "HF", dataclasses.replace(huggingface.HF, write=tampered))
    ended = tinyslm("export", finished, "--to", "hf", "--out", "out")
    assert ended.code == 1
    assert "failed" in ended.out
    assert "mean KL is" in ended.out
    assert ended.err.startswith("warning: What failed the check")
    assert "run-hf-f32.failed" in entries(Path("out"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "ggfu", "--out", "out"], 'Unknown export format "ggfu". Did you mean "gguf"?'),
        (["--to", "hf:q4", "--out", "out"], 'The format "hf" has no scheme "q4". Allowed: bf16, f16, f32.'),
        (["--to", "", "--out", "out"], "No format to export to was given. Formats: gguf, onnx, hf."),
        (["--out", "out"], "--to"),
        (["--to", "hf"], "--out"),
        (["--to", "hf", "--out", "out", "--calibrate", "nowhere"], "nowhere does not exist."),
    ],
)
def test_mistakes(tinyslm, finished: Path, options: list[str], words: str) -> None:
    assert words in tinyslm("export", finished, *options).mistake()
    assert not Path("out").exists()


def test_no_model(tinyslm) -> None:
    assert "nothing does not exist" in tinyslm("export", "nothing", "--to", "hf", "--out", "out").mistake()
    assert not Path("out").exists()


def test_nothing_is_written_over(tinyslm, finished: Path) -> None:
    Path("out/run-hf-f32").mkdir(parents=True)
    words = tinyslm("export", finished, "--to", "hf", "--out", "out").mistake()
    assert "out/run-hf-f32 already exists, and nothing is written over. Remove it, or" in words


def test_what_an_extra_would_bring_is_named(tinyslm, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyslm.export.formats.find_spec", lambda name: None)
    words = tinyslm("export", finished, "--to", "gguf", "--out", "out").mistake()
    assert "pip install 'tinyslm[gguf]'" in words
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", ["export", "compare"])
def test_help_is_light(verb: str) -> None:
    program = f"import sys; sys.argv = ['tinyslm', '{verb}', '--help']; from tinyslm.cli import main; main(); " \
        "print(*sys.modules, file=sys.stderr)"  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--out" in ended.stdout
    assert not {"torch", "numpy", "onnx", "gguf", "transformers", "vl_convert"} & set(ended.stderr.split())


def test_threads_are_those_that_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyslm.hardware.limits import thread_count, usable_cores

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (thread_count(0), thread_count(2)) == (3, 2)
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert thread_count(0) == usable_cores()
    with pytest.raises(TinyslmError, match="-1 threads"):
        thread_count(-1)
