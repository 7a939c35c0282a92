"""Packs taught to new models."""

from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import Engine
from tinyslm.model.folder import load_model, load_tokenizer, read_model_config
from tinyslm.packs import LOGIC
from tinyslm.packs.rows import make_rows
from tinyslm.packs.teaching import train_pack
from tinyslm.packs.untrained import shape_of, write_untrained
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.run_folder import RunFolder


@pytest.mark.parametrize("parameters", [250_000, 1_000_000, 5_000_000, 10_000_000, 100_000_000])
def test_shapes_have_about_the_parameters(parameters: int) -> None:
    assert 0.6 < shape_of(parameters, 2048).parameters / parameters < 1.7


def test_a_tokenizer_of_characters(tmp_path: Path) -> None:
    write_untrained(make_rows(LOGIC, 20).train, 300_000, tmp_path / "model", wanted=TokenizerConfig(kind="char"))
    assert load_tokenizer(tmp_path / "model").decode([ord("a")]) == "a"
    assert len(load_tokenizer(tmp_path / "model").encode("total units")) == 11


@pytest.mark.parametrize("parameters", [1_000, 10**10])
def test_impossible_numbers_of_parameters(parameters: int) -> None:
    with pytest.raises(TinyslmError, match="--params"):
        shape_of(parameters, 2048)


def test_a_pack_is_taught_to_a_new_model(tmp_path: Path) -> None:
    short = {"train": {"steps": 2, "row_tokens": 1024, "score_tokens": 500}, "verdict": {"questions": 1}}
    result = train_pack(LOGIC, 150_000, tmp_path / "run", rows=make_rows(LOGIC, 60), settings=short)
    assert result["step"] == 2
    assert result["loss"] < result["before"]["loss"]
    model, tokenizer = load_model(tmp_path / "run" / "model"), load_tokenizer(tmp_path / "run" / "model")
    assert read_model_config(tmp_path / "run" / "model").vocab_size == tokenizer.vocab_size <= 2048
    engine = Engine(model, tokenizer)
    assert engine.conversations
    RunFolder(tmp_path / "left" / "run").check_unused()
    (tmp_path / "left" / "run" / "untrained").mkdir(parents=True)
    RunFolder(tmp_path / "left" / "run").check_unused()  # what a run left that was killed before it began
