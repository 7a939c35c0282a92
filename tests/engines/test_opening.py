"""Which engine is opened for a path, what is said of mistakes, and how the fastest one is chosen."""

import json
import os
import re
import shutil

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.export import choosing, engines
from tinyslm.export.beside import exports_beside
from tinyslm.export.engines import open_engine
from tinyslm.export.exporting import export_model
from tinyslm.hardware import compiling
from tinyslm.inference.engine import Engine
from tinyslm.inference.native.build import available
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model import folder
from tinyslm.model.folder import load_model, load_tokenizer, save_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, where compiled libraries of the user's stay at hand."""
    compiled = compiling.cache_folder()
    monkeypatch.setattr(compiling, "cache_folder", lambda: compiled)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choosing, "_is_busy", lambda: False)
    return tmp_path / "cache" / "tinyslm" / "engines.json"


@pytest.fixture
def told(monkeypatch):
    """What is said of choices."""
    said: list[str] = []
    monkeypatch.setattr(engines, "notice", said.append)
    return said


@pytest.fixture(scope="module")
def exported(make_tiny):
    """A model folder with two exports beside it."""
    folder = make_tiny(seed=3)
    export_model(folder, "gguf:f32,gguf:q4_0,onnx:fp32", folder.parent / "exports", verify=False)
    return folder


def opened(*arguments, **options):
    engine = open_engine(*arguments, threads=1, device="cpu", **options)
    engine.close()
    return engine


def test_every_kind_of_path_has_its_engine(places) -> None:
    assert opened(places["onnx"]).name == "onnx"
    assert opened(places["llama.cpp"]).name == "llama.cpp"
    assert opened(places["torch"], "torch").name == "torch"


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("fast", [True, False])
def test_a_folder_is_computed_in_what_it_is_stored_in_where_that_is_fast(
    places, tmp_path, monkeypatch, stored: torch.dtype, fast: bool
) -> None:
    save_model(load_model(places["native"], dtype=stored), tmp_path / "stored", load_tokenizer(places["native"]))
    monkeypatch.setattr(folder, "has_fast_bf16", lambda device: fast)
    for engine in (opened(tmp_path / "stored", "native"), Engine.load(tmp_path / "stored")):
        assert engine.model.dtype == (stored if fast else torch.float32)
    assert opened(tmp_path / "stored", "native", dtype=torch.float32).model.dtype == torch.float32


@pytest.mark.parametrize(
    ("place", "engine", "problem", "remedy"),
    [
        ("torch", "torhc", 'no engine "torhc"', 'Did you mean "torch"'),
        ("llama.cpp", "native", "run by llama.cpp, not by the engine native", "model folder"),
        ("onnx", "llama.cpp", "run by onnx, not by the engine llama.cpp", "say onnx"),
        ("torch", "onnx", "there is none", "tinyslm export .* --to onnx:int4 --out"),
        ("torch", "llama.cpp", "there is none", "tinyslm export .* --to gguf:q4_0 --out"),
        ("nowhere", "auto", "There is no", "model folders"),
    ],
)
def test_what_cannot_be_opened(places, place: str, engine: str, problem: str, remedy: str) -> None:
    with pytest.raises(TinyslmError, match=problem) as caught:
        opened(places.get(place, "nowhere"), engine)
    assert re.search(remedy, caught.value.remedy)


def test_mistakes_in_the_options(places) -> None:
    with pytest.raises(TinyslmError, match="0 threads"):
        open_engine(places["torch"], threads=0)
    with pytest.raises(TinyslmError, match="takes no draft"):
        opened(places["llama.cpp"], draft=places["torch"])


def test_damaged_exports_are_refused(places, tmp_path) -> None:
    folder = shutil.copytree(places["onnx"], tmp_path / "damaged")
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:5000])
    with pytest.raises(TinyslmError, match="ONNX Runtime does not run"):
        opened(folder)
    file = tmp_path / "damaged.gguf"
    file.write_bytes(places["llama.cpp"].read_bytes()[:-5000])
    with pytest.raises(TinyslmError):
        opened(file)


def test_graphs_of_other_programs_are_refused(places, tmp_path) -> None:
    import onnx

    folder = shutil.copytree(places["onnx"], tmp_path / "other")
    model = onnx.load(folder / "model.onnx")
    extra = onnx.helper.make_tensor_value_info("position_ids", onnx.TensorProto.INT64, ["batch"])
    model.graph.input.append(extra)
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(TinyslmError, match="takes other inputs"):
        opened(folder)


class TestExportsBeside:
    def test_they_are_found_in_and_beside_the_folder(self, exported) -> None:
        found = {(export.format, export.scheme): export for export in exports_beside(exported)}
        assert set(found) == {("gguf", "f32"), ("gguf", "q4_0"), ("onnx", "fp32")}
        assert [found[key].exact for key in sorted(found)] == [True, False, True]

    def test_a_named_engine_takes_the_smallest(self, exported, told) -> None:
        engine = opened(exported, "llama.cpp")
        assert engine.name == "llama.cpp"
        assert "Q4_0.gguf" in told[0]
        assert opened(exported, "onnx").name == "onnx"

    def test_those_of_older_weights_are_none(self, exported, tmp_path) -> None:
        place = shutil.copytree(exported.parent, tmp_path / exported.parent.name)
        assert len(exports_beside(place / "model")) == 3  # they were moved together
        os.utime(place / "model" / "model.safetensors", (2e9, 2e9))
        assert exports_beside(place / "model") == []

    def test_damaged_reports_name_nothing(self, exported, tmp_path) -> None:
        place = shutil.copytree(exported.parent, tmp_path / exported.parent.name)
        report = place / "exports" / "exports.json"
        for content in (
            "{",
            "[]",
            '{"exports": 3}',
            '{"exports": [3, {"name": "../x"}, {"name": "x", "format": "hf"}]}',
        ):
            report.write_text(content)
            assert exports_beside(place / "model") == []

    def test_failed_ones_are_none(self, exported, tmp_path) -> None:
        place = shutil.copytree(exported.parent, tmp_path / exported.parent.name)
        report = place / "exports" / "exports.json"
        said = json.loads(report.read_text())
        for row in said["exports"]:
            row["verdict"] = "failed: nonsense"
        report.write_text(json.dumps(said))
        assert exports_beside(place / "model") == []


class TestChoice:
    def test_the_fastest_is_chosen_and_remembered(self, places, cache, told) -> None:
        first = opened(places["torch"])
        assert first.name in ("native", "torch")
        if told:  # there is a compiler, and so a choice
            assert told[0].startswith(f"Engine: {first.name}, the fastest here")
            assert list(json.loads(cache.read_text()).values()) == [first.name]
        assert opened(places["torch"]).name == first.name
        assert len(told) <= 1

    @pytest.mark.skipif(available() is not None, reason="needs a C++ compiler: without one there is nothing to choose")
    def test_what_is_remembered_counts(self, places, cache, told) -> None:
        opened(places["torch"])
        assert told
        known = json.loads(cache.read_text())
        for name in ("native", "torch"):
            cache.write_text(json.dumps(dict.fromkeys(known, name)))
            assert opened(places["torch"]).name == name
        cache.write_text("{")
        opened(places["torch"])
        assert ["tokens per second" in one for one in told] == [True, True]

    def test_a_cache_that_cannot_be_written_does_no_harm(self, places, tmp_path) -> None:
        (tmp_path / "cache").write_text("a file")
        assert opened(places["torch"]).name in ("native", "torch")

    def test_other_weights_are_measured_anew(self, places, exported) -> None:
        keys = {choosing.choice_key(folder, 1) for folder in (places["torch"], exported)}
        assert len({*keys, choosing.choice_key(exported, 2)}) == 3

    def test_exact_exports_take_part(self, exported, told) -> None:
        opened(exported)
        assert "onnx" in told[0]
        assert "llama.cpp" in told[0]

    def test_a_measurement_generates(self, make_engine) -> None:
        engine = make_engine("torch")
        assert choosing.decode_speed(engine) > 0
        assert engine.stats().running == 0 or engine.complete("x", SamplingSettings(max_tokens=2))
        engine.close()


def test_multi_token_characters_are_told_apart(places) -> None:
    from tinyslm.export.gguf.answers import Cutter
    from tinyslm.model.folder import load_tokenizer

    tokenizer = load_tokenizer(places["torch"])
    cutter = Cutter(tokenizer)
    data = "🙂".encode()
    assert [tokenizer.token_bytes(token) for token in cutter.cut(data, 4)] == [data[i : i + 1] for i in range(4)]
    assert cutter.cut(data, 5) is None
    assert cutter.cut(b"", 0) == []
    assert cutter.cut(b"x", 0) is None
