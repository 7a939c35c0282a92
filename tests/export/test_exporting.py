"""Exports as a whole: what is written where, what is refused, and what happens to what fails."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from own_runtime import fake_format, write_small_model

import tinyslm.export.formats as formats
from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.quantizing import quantize
from tinyslm.core.errors import TinyslmError
from tinyslm.export.exporting import export_model
from tinyslm.export.formats import PLACES, RUNTIMES, find_format, targets
from tinyslm.model.folder import load_model, load_tokenizer, save_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture
def fake(monkeypatch):
    """Registers a test-only format called "fake"; give it what `fake_format` takes."""

    def register(**options):
        made = fake_format(**options)
        real = formats.find_format
        monkeypatch.setattr(formats, "find_format", lambda name: made if name == "fake" else real(name))
        monkeypatch.setitem(RUNTIMES, "fake", ("the engine", ("torch",)))

    return register


def entries(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def other_weights(path):
    """Change the weights of a model folder as a faulty converter would."""
    model = load_model(path)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(-3)
        model.model.layers[0].mlp.down_proj.weight.add_(0.3)
    save_model(model, path, load_tokenizer(path))


class TestTargets:
    @pytest.mark.parametrize(
        ("to", "expected"),
        [
            ("hf", ["hf:f32"]),
            ("hf:bf16", ["hf:bf16"]),
            ("hf:all", ["hf:f32", "hf:bf16", "hf:f16"]),
            (" HF:BF16 , hf,hf:f32,", ["hf:bf16", "hf:f32"]),
            (["hf:f16", "hf"], ["hf:f16", "hf:f32"]),
        ],
    )
    def test_what_is_asked_for(self, to, expected):
        assert [str(target) for target in targets(to)] == expected

    @pytest.mark.parametrize(
        ("to", "problem", "remedy"),
        [
            ("ggfu", 'Unknown export format "ggfu"', 'Did you mean "gguf"'),
            ("hf:bf61", 'has no scheme "bf61"', 'Did you mean "bf16"'),
            ("", "No format", "Formats: gguf, onnx, hf"),
            (" , ", "No format", "Formats"),
        ],
    )
    def test_what_does_not_exist(self, to, problem, remedy):
        with pytest.raises(TinyslmError) as mistake:
            targets(to)
        assert problem in mistake.value.problem
        assert remedy in mistake.value.remedy

    @pytest.mark.parametrize("name", PLACES)
    def test_every_format_is_whole(self, name):
        found = find_format(name)
        assert found.name == name
        assert set(found.usual) <= set(found.schemes)
        suffixes = [scheme.suffix for scheme in found.schemes.values()]
        assert len(set(suffixes)) == len(suffixes)
        assert name in RUNTIMES


def test_a_working_export(model_folder, tmp_path, fake):
    fake()
    stages = []
    made = export_model(model_folder, "fake", tmp_path / "out", progress=lambda stage, *_: stages.append(stage))
    assert [(row.format, row.scheme, row.verdict, row.path.name) for row in made] == [
        ("fake", "exact", "ok", "small.exact")
    ]
    assert made[0].bytes == sum(file.stat().st_size for file in made[0].path.iterdir())
    assert entries(tmp_path / "out") == {"small.exact", "small.exact.txt", "exports.json"}
    assert stages == ["loading the model", "fake:exact, to be tried in the engine"]
    report = json.loads((tmp_path / "out/exports.json").read_text())["exports"]
    assert report[0]["findings"]["strings_equal"] == 500
    assert report[0]["name"] == "small.exact"


def test_notes_and_earlier_exports_are_kept_in_the_report(model_folder, tmp_path, fake):
    fake()
    export_model(model_folder, "fake", tmp_path, verify=False)
    made = export_model(model_folder, "fake:rounded", tmp_path, verify=False)
    assert made[0].notes == ("lm_head.weight: f32 instead of q4",)
    report = json.loads((tmp_path / "exports.json").read_text())["exports"]
    assert [(row["name"], row["notes"]) for row in report] == [
        ("small.exact", []),
        ("small.rounded", ["lm_head.weight: f32 instead of q4"]),
    ]


def test_rounding_on_top_of_rounding_is_noted(model_folder, tmp_path, fake):
    fake()
    quantize(model_folder, tmp_path / "small-int8", QuantizeConfig(scheme="int8"))
    folders = (model_folder, tmp_path / "small-int8")
    notes = [export_model(folder, "fake", tmp_path / "out", verify=False)[0].notes for folder in folders]
    assert notes[0] == ()
    assert "made from rounded weights" in notes[1][0]


def test_without_a_check(model_folder, tmp_path, fake):
    fake(tamper=other_weights)
    made = export_model(model_folder, "fake", tmp_path, verify=False)
    assert (made[0].verdict, made[0].findings, made[0].failed) == ("not checked", None, False)
    assert "small.exact" in entries(tmp_path)


def test_tampered_weights_fail_and_are_called_so(model_folder, tmp_path, fake):
    fake(tamper=other_weights)
    made = export_model(model_folder, "fake", tmp_path)
    assert made[0].failed
    assert "prompts are continued otherwise" in made[0].verdict
    assert made[0].path == tmp_path / "small.exact.failed"
    assert entries(tmp_path) == {"small.exact.failed", "exports.json"}, "what belongs to it goes"


def test_what_a_runtime_cannot_load_fails(model_folder, tmp_path, fake):
    fake(tamper=lambda path: (path / "model.safetensors").write_bytes(b"broken"))
    made = export_model(model_folder, "fake:all", tmp_path)
    assert [row.failed for row in made] == [True, True], "the others are still made"
    assert made[0].verdict.startswith("failed: the engine does not run it: ")
    assert made[0].findings is None


def test_a_gguf_file_with_other_weights_fails_in_llama_cpp(model_folder, tmp_path, monkeypatch):
    from tinyslm.export import gguf

    def tampered(original, scheme, path, options):
        written = real(original, scheme, path, options)
        content = bytearray(path.read_bytes())
        content[-40_000:-2_000] = content[-80_000:-42_000]
        path.write_bytes(content)
        return written

    real = gguf.GGUF.write
    monkeypatch.setattr(gguf, "GGUF", dataclasses.replace(gguf.GGUF, write=tampered))
    made = export_model(model_folder, "gguf:f32", tmp_path)
    assert made[0].verdict.startswith("failed: ")
    assert "mean KL is" in made[0].verdict
    assert entries(tmp_path) == {"small-F32.gguf.failed", "exports.json"}


@pytest.mark.parametrize("taken", ["small.exact", "small.exact.failed"])
def test_nothing_is_written_over(model_folder, tmp_path, fake, taken):
    fake()
    (tmp_path / taken).write_text("mine")
    with pytest.raises(TinyslmError, match="already exists"):
        export_model(model_folder, "fake:rounded,fake:exact", tmp_path)
    assert entries(tmp_path) == {taken}
    assert (tmp_path / taken).read_text() == "mine"


def test_nothing_beside_an_export_is_written_over(model_folder, tmp_path, fake):
    fake()
    (tmp_path / "small.exact.txt").write_text("mine")
    with pytest.raises(TinyslmError, match=r"small\.exact\.txt already exists"):
        export_model(model_folder, "fake", tmp_path)
    assert entries(tmp_path) == {"small.exact.txt"}


def nothing_is_made(*_):
    raise AssertionError("the work was begun")


def test_a_left_over_modelfile_is_told_before_the_work(model_folder, tmp_path, monkeypatch):
    from tinyslm.export import gguf

    monkeypatch.setattr(gguf, "GGUF", dataclasses.replace(gguf.GGUF, write=nothing_is_made))
    (tmp_path / "small-F32.Modelfile").write_text("mine")
    with pytest.raises(TinyslmError, match=r"small-F32\.Modelfile already exists"):
        export_model(model_folder, "gguf:f32", tmp_path)
    assert entries(tmp_path) == {"small-F32.Modelfile"}


@pytest.mark.parametrize("content", ["{", "[]", '{"exports": {}}', '{"exports": ["x"]}', "\xff"])
def test_a_damaged_report_is_told_before_the_work(model_folder, tmp_path, fake, content):
    fake(tamper=nothing_is_made)
    (tmp_path / "exports.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(TinyslmError, match=r"exports\.json is"):
        export_model(model_folder, "fake", tmp_path)
    assert entries(tmp_path) == {"exports.json"}


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ 'x' * 10 ** 9 }}", "The chat template"),
        ("{% for", "The chat template is not valid Jinja"),
        ("{{ raise_exception('no') }}", "The chat template refuses"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_told_before_the_work(model_folder, tmp_path, fake, template, problem):
    fake(tamper=nothing_is_made)
    shutil.copytree(model_folder, tmp_path / "small")
    (tmp_path / "small/chat_template.jinja").write_text(template)
    with pytest.raises(TinyslmError, match=f"small: {problem}"):
        export_model(tmp_path / "small", "fake", tmp_path / "out", verify=False)
    assert not (tmp_path / "out").exists()


def test_a_template_may_refuse_messages_of_the_system(model_folder, tmp_path, fake):
    fake()
    shutil.copytree(model_folder, tmp_path / "small")
    template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (tmp_path / "small/chat_template.jinja").write_text(template + "{{ m.content }}{% endfor %}")
    made = export_model(tmp_path / "small", "fake", tmp_path / "out")
    assert (made[0].verdict, made[0].findings.chats) == ("ok", 2)


def test_a_model_that_a_format_cannot_hold_is_refused_before_anything_is_made(model_folder, tmp_path, fake):
    fake(supports=lambda model: "it has no place for frobnication")
    with pytest.raises(TinyslmError, match="no place for frobnication"):
        export_model(model_folder, "hf,fake", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_program_is_told_before_anything_is_made(model_folder, tmp_path, fake, monkeypatch):
    fake()
    monkeypatch.setitem(RUNTIMES, "fake", ("the engine", ("no_such_module",)))
    with pytest.raises(TinyslmError, match=r'checking it in the engine needs .*"dev"'):
        export_model(model_folder, "hf,fake", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_export_leaves_nothing(model_folder, tmp_path, fake, error):
    def stop(path):
        raise error

    fake(tamper=stop)
    with pytest.raises(error):
        export_model(model_folder, "fake", tmp_path / "new/out")
    assert not (tmp_path / "new").exists()


def test_a_run_folder_is_exported_under_its_own_name(model_folder, tmp_path, fake):
    fake()
    shutil.copytree(model_folder, tmp_path / "my-run/model")
    made = export_model(tmp_path / "my-run", "fake", tmp_path / "out", verify=False)
    assert made[0].path.name == "my-run.exact"


def test_what_a_killed_export_left_is_removed_by_the_next(model_folder, tmp_path, fake):
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from own_runtime import fake_format
import tinyslm.export.formats as formats
from tinyslm.export.exporting import export_model
formats.find_format = lambda name: fake_format(tamper=lambda path: (print("half", flush=True), time.sleep(60)))
export_model({str(model_folder)!r}, "fake", {str(tmp_path)!r}, verify=False)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [name for name in entries(tmp_path) if not name.startswith(".export.")] == []
    fake()
    export_model(model_folder, "fake", tmp_path, verify=False)
    assert entries(tmp_path) == {"small.exact", "small.exact.txt", "exports.json"}
