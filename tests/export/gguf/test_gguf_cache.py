"""GGUF files where a model folder is wanted: imported once, whole or absent."""

import os

import pytest
from gguf_models import export, random_model, tokenizer_of

from tinyslm.core.errors import TinyslmError
from tinyslm.export import gguf_cache
from tinyslm.export.gguf_cache import model_folder_of
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_cache, "user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "imported"


@pytest.fixture
def file(tmp_path):
    return export(random_model(), tokenizer_of("byte"), "q8_0", tmp_path)[0].path


def test_a_file_is_imported_once_and_again_when_it_changes(file, cache, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gguf_cache, "notice", said.append)
    folder = model_folder_of(file)
    assert folder.parent == cache
    assert "Importing" in said[0]
    assert "in fp32" in said[1]
    engine = open_engine(folder, "torch", device="cpu")
    assert engine.complete("Once", SamplingSettings(max_tokens=3))[0].tokens == 3
    assert (model_folder_of(file), len(said)) == (folder, 2)
    os.utime(file, (1e9, 1e9))
    assert model_folder_of(file) != folder


def test_folders_and_what_is_not_there_are_left_to_the_engine(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.gguf"):
        assert model_folder_of(path) == path


def test_nothing_is_left_of_a_damaged_file(file, cache) -> None:
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(TinyslmError, match="damaged"):
        model_folder_of(file)
    assert not cache.exists() or not any(cache.iterdir())
