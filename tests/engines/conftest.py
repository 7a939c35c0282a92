"""One tiny model for all engines."""

import inspect
from pathlib import Path

import pytest
import torch

from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.native.build import available
from tinyslm.inference.opening import open_engine
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model
from tinyslm.tokenizer.training import train_tokenizer

CONTEXT = 128
NAMES = ("native", "torch")


def write_tiny_model(folder: Path, seed: int = 0, **shape) -> Path:
    """A random model that says letters: neither an end nor bytes that are no text are ever likely."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer([inspect.getsource(inspect)], vocab_size=512)
    shape = {"dim": 64, "head_dim": 32, "depth": 2, "context": CONTEXT, "tied": False, "init_std": 0.2, **shape}
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
        for token in range(tokenizer.vocab_size):
            if not tokenizer.token_bytes(token).isascii() or token in tokenizer.special_ids.values():
                model.lm_head.weight[token] = 0
    save_model(model, folder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory):
    """Makes another one."""
    return lambda **how: write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", **how)


@pytest.fixture(scope="session")
def folder(make_tiny) -> Path:
    """Its model folder."""
    return make_tiny()


@pytest.fixture(scope="session")
def decoder(folder) -> Decoder:
    """The model itself."""
    return load_model(folder)


@pytest.fixture(scope="session")
def make_engine(folder):
    """Opens an engine by its name, with room for eight texts."""

    def make(name: str, **options):
        if name == "native" and (why_not := available()):
            pytest.skip(why_not)
        settings = EngineOptions(**{"cache_tokens": 8 * CONTEXT, **options})
        return open_engine(folder, name, threads=1, options=settings, device="cpu")

    return make


@pytest.fixture(scope="session", params=NAMES)
def engine(request, make_engine):
    """Each engine in turn."""
    made = make_engine(request.param)
    yield made
    made.close()
