"""Which engine is opened for a path, in which number format, and what is said of mistakes."""

import re

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.native.build import available
from tinyslm.inference.opening import open_engine
from tinyslm.model import folder as folders
from tinyslm.model.folder import load_model, load_tokenizer, save_model


def opened(*arguments, **options):
    engine = open_engine(*arguments, threads=1, device="cpu", **options)
    engine.close()
    return engine


def test_a_folder_is_run_natively_where_the_machine_can(folder) -> None:
    assert opened(folder).name == ("torch" if available() else "native")
    assert opened(folder, "torch").name == "torch"


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("fast", [True, False])
def test_a_folder_is_computed_in_what_it_is_stored_in_where_that_is_fast(
    folder, tmp_path, monkeypatch, stored: torch.dtype, fast: bool
) -> None:
    save_model(load_model(folder, dtype=stored), tmp_path / "stored", load_tokenizer(folder))
    monkeypatch.setattr(folders, "has_fast_bf16", lambda device: fast)
    assert opened(tmp_path / "stored").model.dtype == (stored if fast else torch.float32)
    assert opened(tmp_path / "stored", dtype=torch.float32).model.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "engine", "problem", "remedy"),
    [
        ("", "torhc", 'no engine "torhc"', 'Did you mean "torch"'),
        ("", "onnx", 'no engine "onnx"', "native, torch"),
        ("made.gguf", "auto", "is a GGUF file", "tinyslm import .*made.gguf"),
        ("made.onnx", "auto", "only ONNX Runtime runs", "the model folder that it was exported from"),
        ("onnx", "auto", "only ONNX Runtime runs", "the model folder that it was exported from"),
        ("text.txt", "auto", "is not a model folder", "Give a model folder"),
        ("nowhere", "auto", "does not exist", "Give a model folder"),
    ],
)
def test_what_cannot_be_opened(folder, tmp_path, name: str, engine: str, problem: str, remedy: str) -> None:
    (tmp_path / "onnx").mkdir()
    for file in ("made.gguf", "made.onnx", "text.txt", "onnx/genai_config.json"):
        (tmp_path / file).write_text("{}")
    with pytest.raises(TinyslmError, match=problem) as caught:
        opened(tmp_path / name if name else folder, engine)
    assert re.search(remedy, caught.value.remedy)


def test_a_model_that_the_native_engine_does_not_run(make_tiny) -> None:
    dynamic = make_tiny(rope_scaling={"kind": "dynamic", "factor": 2.0})
    assert opened(dynamic).name == "torch"
    with pytest.raises(TinyslmError, match="native does not run"):
        opened(dynamic, "native")


def test_no_threads_compute_nothing(folder) -> None:
    with pytest.raises(TinyslmError, match="0 threads"):
        open_engine(folder, threads=0)
