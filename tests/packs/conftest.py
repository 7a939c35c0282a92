import pytest

from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """A token for each byte."""
    return train_tokenizer([], kind="byte")
