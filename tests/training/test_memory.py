"""The memory that settings are said to need is what a training takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tinyslm.core.config import build_config, merge
from tinyslm.core.json_files import read_json
from tinyslm.hardware.device import pick_dtype
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.training.config import RunConfig
from tinyslm.training.memory import kept_bytes, peak_bytes

RUN = Path(__file__).parent / "peak_memory.py"
PROCESS = {
    "tokenizer": {"kind": "byte"},
    "data": {"workers": 1},
    "train": {"steps": 2, "validate_every": 2, "validation_tokens": 1024, "device": "cpu"},
}
SHAPES = {
    "the process itself": {"model": {"dim": 64, "depth": 2, "context": 64}, "train": {"batch": 4, "validate_every": 1}},
    "activations computed again": {
        "model": {"dim": 192, "depth": 6, "context": 256},
        "train": {"batch": 32, "checkpoint_activations": True},
    },
    "activations, in a run that times itself": {
        "model": {"dim": 192, "depth": 4, "context": 256},
        "train": {"batch": 16, "steps": 0, "minutes": 0.05, "validate_every": 0},
    },
    "Muon's work space": {"model": {"dim": 512, "depth": 6, "context": 64}, "train": {"batch": 4, "micro_batch": 2}},
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_training_takes_about_as_much_memory_as_its_settings_say(tmp_path, text_file, shape):
    order = {"paths": [str(text_file)], "out": str(tmp_path / "run"), "config": merge(PROCESS, shape)}
    process = subprocess.run(
        [sys.executable, str(RUN), json.dumps(order)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    config = build_config(RunConfig, read_json(tmp_path / "run" / "config.json"))
    assert int(process.stdout.split()[-1]) == pytest.approx(peak_bytes(config), rel=0.15)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2", "gemma3", "gpt_neox"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("format_name", ["auto", "fp32"])
def test_what_layers_keep_for_the_backward_pass_is_counted(family, dropout, format_name):
    config = ModelConfig(family=family, dim=128, depth=2, vocab_size=256, context=128, dropout=dropout)
    dtype = pick_dtype(torch.device("cpu"), format_name)
    model = Decoder(config).train()
    per_batch = really_kept(model, 4, dtype) - really_kept(model, 2, dtype)  # without what does not grow with it
    assert kept_bytes(config, 2 * config.context, dtype.itemsize) == pytest.approx(per_batch, rel=0.12)


def really_kept(model: Decoder, batch: int, dtype: torch.dtype) -> int:
    """Bytes of all tensors that autograd holds after a forward pass of the trunk, the weights themselves left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    ids = torch.zeros(batch, model.config.context, dtype=torch.int64)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
    ):
        out = model.model(ids)
    assert out.requires_grad
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)
