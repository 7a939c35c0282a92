"""Weight files: shards, types, what is refused, and how much memory loading takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, save_model

CONFIG = ModelConfig(dim=64, depth=2, heads=2, vocab_size=300, context=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(Decoder(CONFIG), tmp_path / "model")
    return tmp_path / "model"


def sharded(folder: Path) -> dict[str, str]:
    """The folder's weights in three files; returns the index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "tinyslm.json").unlink()
    places = {}
    for number in range(3):
        name = f"model-{number + 1:05}-of-00003.safetensors"
        part = dict(list(tensors.items())[number::3])
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    write_index(folder, places)
    return places


def write_index(folder: Path, places: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_shards_load_as_one_file_does(folder: Path) -> None:
    ids = torch.arange(20)[None]
    whole = load_model(folder)(ids)
    sharded(folder)
    assert torch.equal(load_model(folder)(ids), whole)
    assert find_model(folder) == folder


def test_shards_as_transformers_writes_them(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.arange(20)[None]
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    theirs.save_pretrained(folder.with_name("theirs"), max_shard_size="60KB")
    assert len(list(folder.with_name("theirs").glob("*.safetensors"))) > 2
    with torch.no_grad():
        torch.testing.assert_close(load_model(folder.with_name("theirs"))(ids), theirs(ids).logits)


@pytest.mark.parametrize("name", ["../model-1.safetensors", "/etc/passwd", "gone.safetensors", "a/b.safetensors", ""])
def test_an_index_cannot_point_outside_the_folder(folder: Path, name: str) -> None:
    places = sharded(folder)
    write_index(folder, {**places, "model.norm.weight": name})
    with pytest.raises(TinyslmError, match="names"):
        load_model(folder)


@pytest.mark.parametrize("places", [{}, [], None, {"model.norm.weight": 3}])
def test_an_index_without_a_map_is_refused(folder: Path, places: object) -> None:
    sharded(folder)
    write_index(folder, places)
    with pytest.raises(TinyslmError, match="weight_map"):
        load_model(folder)


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    places = sharded(folder)
    save_file({"model.norm.weight": torch.ones(64)}, folder / "more.safetensors")
    write_index(folder, {**places, "more": "more.safetensors"})
    with pytest.raises(TinyslmError, match="both hold"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("wanted", [torch.bfloat16, torch.float32])
def test_files_of_every_type_load_as_every_type(folder: Path, dtype: torch.dtype, wanted: torch.dtype) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "tinyslm.json").unlink()
    model = load_model(folder, dtype=wanted)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    expected = tensors["model.layers.1.mlp.up_proj.weight"].to(dtype).to(wanted)
    assert torch.equal(model.model.layers[1].mlp.up_proj.weight, expected)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_a_pickle_is_refused_with_the_reason_and_the_way_out(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(TinyslmError, match="any program") as caught:
        load_model(folder)
    assert "save_pretrained" in caught.value.remedy


PEAK = """
import sys, torch
from pathlib import Path
from tinyslm.model.folder import load_model
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
Path("/proc/self/clear_refs").write_text("5")  # a process inherits its parent's peak
before = peak()
model = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
for parameter in model.parameters(): parameter.detach().view(torch.uint8).flatten()[::4096].sum()  # every page
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("stored", "loaded", "most"),
    [("float32", "float32", 1.2), ("bfloat16", "bfloat16", 1.2), ("bfloat16", "float32", 1.25)],
)
def test_loading_takes_the_memory_of_the_weights(stored: str, loaded: str, most: float, tmp_path: Path) -> None:
    config = ModelConfig(dim=512, depth=8, vocab_size=16384, context=64, tied=False)
    with torch.device("meta"):
        model = Decoder(config)
    save_model(model.to_empty(device="cpu").to(getattr(torch, stored)), tmp_path / "model")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "model"), loaded]
    used = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    size = config.parameters * (4 if loaded == "float32" else 2)
    assert 0.9 * size < used < most * size + 20e6, f"{used / size:.2f} times the weights"


@pytest.mark.parametrize("change", [{"hidden_size": 2**30}, {"vocab_size": 2**30}])
def test_a_config_of_a_huge_model_takes_no_memory(folder: Path, change: dict) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(TinyslmError, match="bytes of weights"):
        load_model(folder)


def test_weight_files_have_the_rights_of_any_new_file(folder: Path) -> None:
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder: Path, value: float):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 2] = value
    save_file(tensors, folder / "model.safetensors")
    (folder / "tinyslm.json").unlink()
    with pytest.raises(TinyslmError, match=r"layers\.1\.mlp\.up_proj\.weight has values that are not finite"):
        load_model(folder)
