import pytest
from tokenizer_corpus import corpus

from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="session", params=[*KINDS])
def tokenizer(request) -> Tokenizer:
    return train_tokenizer(corpus(), kind=request.param, vocab_size=1024)


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return train_tokenizer(corpus(), vocab_size=1024)
