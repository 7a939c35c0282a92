"""A small model folder to deploy."""

from pathlib import Path

import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.deploy.page.packages import JINJA, WLLAMA, obtain
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.packs.excel.browser_page import IRONCALC
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="session")
def npm_packages() -> None:
    """The packages that pages are made of, in the cache. Where npm's registry cannot be reached, tests are skipped."""
    try:
        for package in (WLLAMA, JINJA, IRONCALC):
            obtain(package)
    except TinyslmError as error:
        if "cannot be fetched" not in error.problem:
            raise
        pytest.skip(error.problem)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a record of its training; not to be written to."""
    tokenizer = train_tokenizer([], kind="byte")
    folder = tmp_path_factory.mktemp("deploy") / "small"
    config = ModelConfig(vocab_size=tokenizer.vocab_size, dim=32, heads=2, depth=1, context=64)
    record = {"bits_per_byte": 2.5, "low": 2.25, "high": 2.75, "documents": 3, "training_tokens": 4096, "step": 8}
    torch.manual_seed(0)
    save_model(Decoder(config), folder, tokenizer, record)
    return folder
