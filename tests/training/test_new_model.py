"""What a run begins with."""

import torch

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import new_model

SHAPE = {"vocab_size": 64, "dim": 32, "heads": 2, "depth": 1, "context": 16}


def test_at_first_all_tokens_are_equally_likely_and_the_rest_is_random() -> None:
    torch.manual_seed(1)
    model = new_model(ModelConfig(**SHAPE))
    assert torch.equal(model(torch.arange(16)[None]), torch.zeros(1, 16, 64))
    assert all(
        weight.std() > 0.001 for name, weight in model.named_parameters() if weight.ndim == 2 and "lm_head" not in name
    )


def test_one_table_for_both_is_random() -> None:
    torch.manual_seed(1)
    model = new_model(ModelConfig(**SHAPE, tied=True))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.std() > 0.01
