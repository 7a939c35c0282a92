"""A tiny model folder and text for it."""

from pathlib import Path

import pytest
import torch

from sentences import sentences
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 20 documents, 14 kB in all."""
    folder = tmp_path_factory.mktemp("quantize") / "texts"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.txt").write_text(sentences(12, seed=number))
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([sentences(200, seed=99)], vocab_size=320)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A model folder with strong random weights; not to be written to."""
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, dim=64, heads=2, kv_heads=1, depth=2, context=32, init_std=0.15
    )
    folder = tmp_path_factory.mktemp("original") / "model"
    save_model(Decoder(config), folder, tokenizer, {"training_tokens": 7})
    return folder
