"""The lesson's file trains, and its model folders mean the same to it, to tinyslm and to transformers."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sentences import sentences
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.tokenizer.training import train_tokenizer

TINY = Path(__file__).parents[2] / "lessons" / "tiny.py"
TEXT = "Then there was a café, 12345 of it's\n\n  bears_here!  naïve ½"


@pytest.fixture(scope="module")
def tiny() -> ModuleType:
    """The lesson's file as a module."""
    spec = importlib.util.spec_from_file_location("tiny", TINY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_it_trains_is_a_model_folder(tiny, tmp_path):
    """Trained by the command, read by all three: equal ids, equal logits, a loss below that of equal odds."""
    text, out = tmp_path / "text.txt", tmp_path / "model"
    text.write_text(sentences(300), encoding="utf-8")
    shape = ["--width", "64", "--depth", "2", "--context", "64", "--merges", "40"]
    done = subprocess.run(
        [sys.executable, TINY, "train", text, out, "--minutes", "0.03", *shape],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout.split("loss ")[-1].split(",")[0]) < math.log(297)
    model, tokenizer = tiny.load(out)
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert max(ids) >= 256
    assert ids == load_tokenizer(out).encode(TEXT) == AutoTokenizer.from_pretrained(out)(TEXT)["input_ids"]
    ids_bt = torch.tensor([ids])
    with torch.no_grad():
        found = model(ids_bt)
        assert torch.allclose(found, load_model(out)(ids_bt), atol=1e-5)
        assert torch.allclose(found, AutoModelForCausalLM.from_pretrained(out)(ids_bt).logits, atol=1e-5)
    begun = tiny.sample(model, ids[:3], 5)
    assert begun[:3] == ids[:3]
    assert len(begun) == 8


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_it_reads_a_folder_of_the_package(tiny, kv_heads, tmp_path):
    tokenizer = train_tokenizer([sentences(300)], vocab_size=320)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, dim=128, depth=2, heads=2, kv_heads=kv_heads, context=64, tied=True
    )
    torch.manual_seed(0)
    save_model(made := Decoder(config).eval(), tmp_path / "model", tokenizer)
    model, own = tiny.load(tmp_path / "model")
    ids = tokenizer.encode(TEXT)
    assert own.encode(TEXT) == ids
    with torch.no_grad():
        assert torch.allclose(model(torch.tensor([ids])), made(torch.tensor([ids])), atol=1e-5)


def test_it_is_short():
    assert len(TINY.read_text(encoding="utf-8").splitlines()) <= 300
