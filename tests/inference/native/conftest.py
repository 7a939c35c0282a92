import platform

import numpy as np
import pytest
import torch

from tinyslm.compression.rounding import round_to_nearest
from tinyslm.compression.schemes import plan
from tinyslm.hardware.compiling import build
from tinyslm.inference.native.build import SOURCE, library, load
from tinyslm.inference.runner import Rows
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import model_of

PROCESSORS = {"this": None, "plain": ()} | ({"AVX2": ("-march=x86-64-v3",)} if platform.machine() == "x86_64" else {})


@pytest.fixture(scope="session", params=PROCESSORS)
def compiled(request):
    """The library for this processor, and for lesser ones."""
    options = PROCESSORS[request.param]
    return library() if options is None else load(build(SOURCE, options))


@pytest.fixture(scope="session")
def make_model():
    """Makes a small random model: `make_model("llama", depth=1)`; `scheme` packs it, plainly rounded."""

    def make(family: str = "qwen3", scheme: str = "", **changes) -> Decoder:
        torch.manual_seed(5)
        shape = {"vocab_size": 131, "dim": 64, "heads": 4, "depth": 2, "context": 96}
        model = Decoder(ModelConfig(family=family, **{**shape, **changes}))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=0.1 if parameter.ndim == 1 else 0.0, std=0.2)
        return packed(model, scheme).eval() if scheme else model.eval()

    return make


def packed(model: Decoder, scheme: str) -> Decoder:
    """The model with its matrices rounded to nearest."""
    tensors = model.state_dict()
    if model.config.tied:
        del tensors["lm_head.weight"]
    for name, layout in plan(model, scheme, 32).layouts.items():
        tensors[name] = round_to_nearest(tensors[name], layout)
    return model_of(model.config, tensors, dtype=torch.float32)


@pytest.fixture
def rows_of():
    """Rows of sequences: `rows_of(ids_qt, tables, start=0, wanted=None)`; all are wanted unless said otherwise."""

    def make(ids_qt, tables, start=0, wanted=None) -> Rows:
        ids = np.asarray(ids_qt, np.int32)
        sequences, length = ids.shape
        count = sequences * length
        positions = np.tile(np.arange(start, start + length, dtype=np.int32), sequences)
        return Rows(
            ids.reshape(-1),
            positions,
            np.repeat(np.arange(sequences, dtype=np.int32), length),
            np.asarray(tables, np.int32),
            np.asarray(range(count) if wanted is None else wanted, np.int32),
        )

    return make
