"""A small random model over bytes, in a started engine and as a model folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tinyslm.inference.engine import Engine
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([], kind="byte")


@pytest.fixture(scope="session")
def model(tokenizer) -> Decoder:
    torch.manual_seed(4)
    made = Decoder(ModelConfig(family="qwen3", dim=32, heads=4, depth=2, context=128, vocab_size=tokenizer.vocab_size))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    return made.eval()


@pytest.fixture(scope="session")
def folder(model, tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; not to be written to."""
    made = tmp_path_factory.mktemp("batch") / "model"
    save_model(model, made, tokenizer)
    return made


@pytest.fixture
def engine(model, tokenizer) -> Iterator[Engine]:
    """It works in a thread of its own."""
    made = Engine(model, tokenizer)
    made.start()
    yield made
    made.close()
