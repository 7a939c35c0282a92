import pytest
import torch
from scripted_engine import ScriptedEngine

from tinyslm.inference.engine import Engine
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="session")
def agent_tokenizer():
    return train_tokenizer([], kind="byte")


@pytest.fixture
def scripted(agent_tokenizer):
    """Makes an engine that says the given texts: `scripted("Hello.")`."""

    def make(*texts, **options) -> ScriptedEngine:
        return ScriptedEngine(agent_tokenizer, texts, **options)

    return make


@pytest.fixture(scope="session")
def random_model(agent_tokenizer):
    torch.manual_seed(4)
    shape = {"dim": 16, "heads": 2, "depth": 1, "context": 2048, "vocab_size": agent_tokenizer.vocab_size}
    model = Decoder(ModelConfig(family="qwen3", **shape))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    return model.eval()


@pytest.fixture
def random_engine(random_model, agent_tokenizer):
    """A small random model over bytes."""
    engine = Engine(random_model, agent_tokenizer)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def random_folder(random_model, agent_tokenizer, tmp_path_factory):
    """The same as a model folder."""
    folder = tmp_path_factory.mktemp("agents") / "model"
    save_model(random_model, folder, agent_tokenizer)
    return folder
