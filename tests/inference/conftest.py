import pytest
import torch

from grouping import grouped
from tinyslm.inference.engine import Engine
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="session")
def byte_tokenizer():
    return train_tokenizer([], kind="byte")


@pytest.fixture(scope="session")
def make_engine(byte_tokenizer):
    """Makes an engine with a small random model over bytes: `make_engine("llama", context=16)`.

    endless: no special token is ever the likeliest.
    """

    def make(family: str = "qwen3", *, endless: bool = False, **changes) -> Engine:
        torch.manual_seed(4)
        shape = {"dim": 32, "heads": 4, "depth": 2, "context": 64, "vocab_size": byte_tokenizer.vocab_size}
        model = Decoder(ModelConfig(family=family, **{**shape, **grouped(family, 4), **changes}))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.02, 0.3)
        if endless:
            with torch.no_grad():
                model.lm_head.weight[256:] = 0
        return Engine(model.eval(), byte_tokenizer)

    return make
