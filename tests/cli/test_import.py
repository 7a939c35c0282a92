"""`tinyslm import`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "export" / "gguf"))

from gguf_files import write_tiny_llama
from the_command import entries

from tinyslm.model.folder import load_model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf")


def test_a_file_becomes_a_model_folder(tinyslm, file: Path) -> None:
    ended = tinyslm("import", file, "--out", "tiny")
    assert ended.code == 0, ended
    assert "11 tensors (11 as F32), now in fp32." in ended.out
    assert "tiny: llama," in ended.out
    assert 'generate tiny -p "Once upon a time"' in ended.out
    assert load_model("tiny").config.dim == 32
    assert tinyslm("generate", "tiny", "-p", "the", "--max-tokens", "3").code == 0
    assert tinyslm("show", "tiny").code == 0


def test_the_number_format_can_be_chosen(tinyslm, file: Path) -> None:
    assert "now in bf16" in tinyslm("import", file, "--out", "tiny", "--dtype", "bf16").out
    assert '"bf17"' in tinyslm("import", file, "--out", "other", "--dtype", "bf17").mistake()


def test_help_says_what_auto_means(tinyslm) -> None:
    assert "changes no value" in " ".join(tinyslm("import", "--help").out.replace("│", " ").split())


def test_mistakes_are_told_in_two_lines(tinyslm, file: Path, tmp_path: Path) -> None:
    assert "nowhere.gguf does not exist" in tinyslm("import", "nowhere.gguf", "--out", "x").mistake()
    assert f"{tmp_path} is a folder, not a file" in tinyslm("import", tmp_path, "--out", "x").mistake()
    assert "--out" in tinyslm("import", file).mistake()
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:5000])
    assert "cut.gguf is damaged" in tinyslm("import", "cut.gguf", "--out", "x").mistake()
    (tmp_path / "not.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "not.gguf is not a GGUF file" in tinyslm("import", "not.gguf", "--out", "x").mistake()
    Path("here").mkdir()
    assert "here exists already" in tinyslm("import", file, "--out", "here").mistake()
    assert entries(tmp_path) == {"tiny.gguf", "cut.gguf", "not.gguf", "here"}
